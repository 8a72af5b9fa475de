"""The metrics page: every row once, in a form that renders."""

import pytest

from exporter.catalogue import CATALOGUE, actions, document
from exporter.catalogue.metric import gauge, histogram


def test_every_row_has_exactly_one_line() -> None:
    page = document.page()

    for row in (*CATALOGUE, *actions.ROWS):
        [line] = [line for line in page.splitlines() if line.startswith(f"| `{row.name}` |")]
        assert row.help.replace("|", r"\|") in line
        assert all(f"`{label}`" in line for label in row.labels)


def test_a_line_has_five_cells_whatever_its_words_are() -> None:
    odd = gauge("a_b", "This | that.", "x", source="a | b")

    assert document._line(odd) == r"| `a_b` | gauge | `x` | This \| that. | a \| b |"


def test_a_histogram_tells_its_buckets() -> None:
    row = histogram("a_seconds", "A.", source="s", buckets=(0.005, 1.0, 2.5), unit="seconds")

    assert "A. Buckets: 0.005, 1, 2.5." in document._line(row)


def test_no_two_rows_have_one_name_also_of_different_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    twin = gauge(CATALOGUE[0].name, "A.", source="s")
    monkeypatch.setattr(actions, "ROWS", (*actions.ROWS, twin))

    with pytest.raises(ValueError, match=f"catalogued twice: {twin.name};"):
        document.page()


def test_a_row_of_no_section_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "CATALOGUE", (*CATALOGUE, gauge("a_b", "A.", source="s")))

    with pytest.raises(ValueError, match="rows of no section: a_b"):
        document.page()
