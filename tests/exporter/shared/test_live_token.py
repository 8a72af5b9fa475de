"""The token of the live view: opens only for itself, shows itself nowhere, and is read from a file that holds one."""

from pathlib import Path

import pytest

from exporter import settings
from exporter.shared import live_token
from exporter.shared.live_token import LiveToken
from exporter.shared.settings_table import SettingsError

SECRET = "s3cret-" * 6
TOKEN = LiveToken(SECRET)


@pytest.mark.parametrize(
    ("authorization", "opens"),
    [
        (f"Bearer {SECRET}", True),
        (f"bearer  {SECRET} ", True),
        (f"Bearer {SECRET}x", False),
        (f"Bearer {SECRET[:-1]}", False),
        (f"Basic {SECRET}", False),
        (SECRET, False),
        ("Bearer ", False),
        ("", False),
        ("Bearer \udcff", False),
    ],
)
def test_it_opens_for_itself_only(authorization: str, opens: bool) -> None:  # noqa: FBT001 - the expected value
    assert live_token.opens(TOKEN, authorization) is opens


def test_it_shows_itself_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(SECRET + "\n")
    chosen = settings.load({"capture": "full", "live_token_file": str(file)}, environ={})
    assert chosen.live_token is not None
    assert chosen.live_token.header == f"Bearer {SECRET}"
    assert SECRET not in f"{chosen!r} {TOKEN} {TOKEN!r}"


@pytest.mark.parametrize("capture", ["off", "redacted"])
def test_without_full_capture_a_file_is_a_mistake(tmp_path: Path, capture: str) -> None:
    file = tmp_path / "token"
    file.write_text(SECRET)
    with pytest.raises(SettingsError, match="capture=full only"):
        settings.load({"capture": capture, "live_token_file": str(file)}, environ={})
    assert settings.load({"capture": "full"}, environ={}).live_token is None


@pytest.mark.parametrize(
    "content", [b"", b"short", b"a" * 600, b"two words " * 5, b"\xff" * 40, b"x" * 100_000]
)
def test_a_file_without_a_token_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(SettingsError) as refused:
        live_token.from_file(str(file), "live_token_file")
    assert "two words" not in str(refused.value)
