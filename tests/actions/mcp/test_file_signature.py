"""A file's mark: the same while it is as it was, another after any change."""

import os
from pathlib import Path

from actions.mcp.file_signature import signature_of


def test_a_mark_changes_with_the_file_and_with_what_keeps_us_from_it(tmp_path: Path) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    assert signature_of(path) is None
    path.write_text("one")
    first = signature_of(path)
    assert signature_of(path) == first
    os.utime(path, ns=(1, 1))
    touched = signature_of(path)
    other.write_text("one")
    os.utime(other, ns=(1, 1))
    other.replace(path)
    replaced = signature_of(path)
    kept = path.stat()
    path.write_text("two")
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))  # as `rsync --times --inplace` does
    restored = signature_of(path)
    unreachable = signature_of(path / "below")
    assert len({None, first, touched, replaced, restored, unreachable}) == 6
