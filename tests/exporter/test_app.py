"""The parts put together: where a daemon's home is looked for."""

from pathlib import Path
from typing import NoReturn

import pytest

from exporter import app
from tests.system.conftest import daemon


def test_a_user_without_a_home_is_watched_for_without_the_files_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nowhere() -> NoReturn:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    assert app._local_home(daemon("box", "http://127.0.0.1:1234")) is None
