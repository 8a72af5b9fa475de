"""Every board has its picture, small enough for a page."""

import pytest

from tests.dashboards.asked import NAMES, ROOT

MOST_BYTES = 250_000


@pytest.mark.parametrize("name", NAMES)
def test_the_board_has_a_picture_that_a_page_can_show(name: str) -> None:
    picture = (ROOT / "docs" / "boards" / f"{name}.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n")
    width, height = int.from_bytes(picture[16:20]), int.from_bytes(picture[20:24])
    assert (width, height) == (1600, 900)
    assert len(picture) < MOST_BYTES


def test_the_readme_shows_overview_and_pulse() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "docs/boards/overview.png" in text
    assert "docs/boards/pulse.png" in text
