"""Where a path leads, and paths of which that cannot be seen."""

import os
from pathlib import Path

import pytest

from actions.mcp.policy.real_path import real_path


def test_links_are_resolved_and_a_path_need_not_exist(tmp_path: Path) -> None:
    folder = tmp_path.resolve()
    (folder / "link").symlink_to("/etc")
    assert real_path(str(folder / "link" / "passwd")) == "/etc/passwd"
    assert real_path(str(folder / "new" / "file")) == str(folder / "new" / "file")


def test_a_loop_of_links_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        real_path(str(tmp_path / "a" / "file"))


def test_a_folder_that_may_not_be_searched_hides_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = tmp_path.resolve() / "closed" / "link"
    look = os.lstat

    def refuse(path: str) -> os.stat_result:  # as the kernel does, to whoever is not root
        if str(path).startswith(str(hidden)):
            raise PermissionError(13, "Permission denied")
        return look(path)

    monkeypatch.setattr(os, "lstat", refuse)
    with pytest.raises(PermissionError):
        real_path(str(hidden / "passwd"))
