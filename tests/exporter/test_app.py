"""The parts put together: what a watch is made of."""

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
    watch = app.watch(daemon("box", "http://127.0.0.1:1234"), max_age_s=1.0)
    assert watch.name == "box"
    assert watch._home_reader is None
