"""A file that a person named is read whole or not at all, and no more of it than it may have."""

import os
from pathlib import Path

import pytest

from exporter.shared import bounded_file


def test_a_file_of_just_the_size_is_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes("é\r\n".encode() * 4)
    assert bounded_file.read_text(file, at_most=16) == "é\r\n" * 4
    with pytest.raises(bounded_file.TooLarge) as refused:
        bounded_file.read_text(file, at_most=15)
    assert bounded_file.why(refused.value) == "larger than 15 bytes"


def test_a_pipe_is_read_and_an_endless_file_is_not() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"token\n")
    os.close(writing)
    assert bounded_file.read_text(Path(f"/dev/fd/{reading}")) == "token\n"
    os.close(reading)
    with pytest.raises(bounded_file.TooLarge):
        bounded_file.read_text(Path("/dev/zero"))


def test_where_only_files_are_read_a_pipe_holds_nobody_up(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for other in (pipe, Path("/dev/zero")):
        with pytest.raises(bounded_file.NotAFile) as refused:
            bounded_file.read_text(other, only_files=True)
        assert bounded_file.why(refused.value) == "not a file"
    with pytest.raises(IsADirectoryError):
        bounded_file.read_text(tmp_path, only_files=True)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError(2, "No such file or directory"), "No such file or directory"),
        (OSError(), "OSError"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "not text"),
        (ValueError("embedded null byte"), "embedded null byte"),
    ],
)
def test_the_reason_is_a_few_words(error: OSError | ValueError, words: str) -> None:
    assert bounded_file.why(error) == words
