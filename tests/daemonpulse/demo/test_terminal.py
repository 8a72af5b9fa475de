"""The demo on a terminal: `top` with requests of its clients, until a key, Ctrl-C or a signal ends all of it."""

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.daemonpulse.test_cli import COMMAND, clean_environment

PATIENCE_S = 90
LEAVES_SCREEN = "\x1b[?1049l"


class Terminal:
    """What a program wrote to a terminal, and its keyboard."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self._master = master
        self._written = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other side is closed
            while data := os.read(self._master, 65536):
                self._written += data

    @property
    def written(self) -> str:
        """All of it, escapes included."""
        return bytes(self._written).decode("utf-8", "replace")

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self._master, keys)

    def until(self, so: Callable[[str], object]) -> None:
        """Wait until what was written is as said."""
        deadline = time.monotonic() + PATIENCE_S
        while not so(self.written):
            assert self.process.poll() is None, self.written[-2000:]
            assert time.monotonic() < deadline, self.written[-2000:]
            time.sleep(0.1)


@contextmanager
def demo(folder: Path, columns: int, lines: int) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environment = clean_environment() | {
        "PATH": str(Path(COMMAND).parent),
        "TMPDIR": str(folder),
        "TERM": "xterm-256color",
    }
    with subprocess.Popen(
        [COMMAND, "demo"],
        **dict.fromkeys(("stdin", "stdout", "stderr"), slave),  # type: ignore[call-overload]
        env=environment,
        start_new_session=True,
    ) as process:
        os.close(slave)
        try:
            yield Terminal(process, master)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            os.close(master)


@pytest.mark.parametrize(
    ("columns", "lines", "end"), [(80, 24, "q"), (160, 48, "ctrl-c"), (80, 24, "sigterm")]
)
def test_a_terminal_shows_top_with_clients_and_all_ends_together(
    tmp_path: Path, columns: int, lines: int, end: str
) -> None:
    with demo(tmp_path, columns, lines) as terminal:
        terminal.until(lambda written: "Quit" in written and "qwen3-8b" in written)
        terminal.until(lambda written: re.search(r"chat-ui|support-bot|code-review", written))
        before = terminal.written.partition("\x1b[?1049h")[0]
        for name in ("tap", "exporter", "actions", "/live", "/docs"):
            assert name in before
        if end == "sigterm":
            terminal.process.send_signal(signal.SIGTERM)
        else:
            terminal.press(b"q" if end == "q" else b"\x03")
        assert terminal.process.wait(PATIENCE_S) == 0
        after = terminal.written.rpartition(LEAVES_SCREEN)
        assert after[1], "the terminal is as it was"
        assert "Traceback" not in after[2]
        assert "error" not in after[2].lower()
    assert not list(tmp_path.iterdir())
