"""However the demo ends, nothing of it is left: no program, no folder, and no token in one."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from daemonpulse.demo.leftovers import leftovers
from tests.daemonpulse.demo.test_run import until
from tests.daemonpulse.test_cli import COMMAND, clean_environment, started


def eventually(so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.05)  # another process acts


def mentioning(folder: Path) -> list[str]:
    """List the processes whose command lines name something in a folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = " ".join(process.info["cmdline"] or ())
        if str(folder) in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(words)
    return found


@pytest.mark.external("prometheus", "prometheus-alertmanager")
def test_a_demo_that_is_killed_leaves_no_program_and_no_token(tmp_path: Path) -> None:
    urls_file = tmp_path / "urls.json"
    environment = clean_environment() | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [COMMAND, "demo", "--urls-file", str(urls_file)], env=environment, stdout=subprocess.DEVNULL
    ) as process:
        until(process, urls_file.exists)
        assert len(mentioning(tmp_path / "daemonpulse-demo-")) >= 3, "Prometheus, Alertmanager and the guard"
        assert list(tmp_path.glob("daemonpulse-demo-*/actions-token"))
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(timeout=20) == -signal.SIGKILL
    eventually(lambda: [entry.name for entry in tmp_path.iterdir()] == ["urls.json"])
    eventually(lambda: not mentioning(tmp_path / "daemonpulse-demo-"))


@pytest.mark.parametrize("term", ["dumb", "xterm-256color"])
def test_a_demo_whose_terminal_is_closed_ends_and_leaves_nothing(tmp_path: Path, term: str) -> None:
    urls_file = tmp_path / "urls.json"
    ours, theirs = pty.openpty()
    environment = clean_environment() | {
        "TMPDIR": str(tmp_path),
        "PATH": str(Path(COMMAND).parent),
        "TERM": term,
    }
    process = subprocess.Popen(
        [COMMAND, "demo", "--urls-file", str(urls_file)],
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE if term == "dumb" else theirs,  # the screen is drawn on stderr
        start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # noqa: PLW1509 - it gets a terminal
    )
    os.close(theirs)
    until_exists = time.monotonic() + 60
    while not urls_file.exists():
        assert process.poll() is None
        assert time.monotonic() < until_exists
        os.read(ours, 65536)  # a terminal that nobody reads is full at some time
    os.close(ours)
    try:
        _, printed = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, printed or b"") == (0, b"")
    assert set(json.loads(urls_file.read_text())) == {"llmster", "tap", "exporter", "actions"}
    eventually(lambda: [entry.name for entry in tmp_path.iterdir()] == ["urls.json"])


def test_simulate_that_is_killed_leaves_no_folder(tmp_path: Path) -> None:
    words = (COMMAND, "simulate", "--daemon-port", "0", "--listen", "127.0.0.1:0")
    with started("/usr/bin/env", f"TMPDIR={tmp_path}", *words) as process:
        until(process, lambda: bool(list(tmp_path.glob("daemonpulse-simulate-*"))))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        eventually(lambda: not list(tmp_path.iterdir()))


def test_a_program_that_ignores_signals_goes_with_its_group() -> None:
    program = (
        "import os, signal, subprocess, sys, time\n"
        "from daemonpulse.demo.leftovers import leftovers\n"
        "with leftovers('left-') as left:\n"
        "    stubborn = ['sh', '-c', \"trap '' TERM HUP INT; sleep 600 & wait\"]\n"
        "    child = subprocess.Popen(stubborn, start_new_session=True)\n"
        "    left.add_group(child.pid)\n"
        "    print(left.folder, child.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30
    )
    folder, child = killed.stdout.split()
    eventually(lambda: not Path(folder).exists())
    eventually(
        lambda: not [one for one in psutil.process_iter() if _group(one.pid) == int(child) and _lives(one)]
    )


def test_an_ordinary_end_removes_the_folder_and_ends_the_guard() -> None:
    before = {child.pid for child in psutil.Process().children()}
    with leftovers("left-") as left:
        (left.folder / "token").write_text("secret")
        assert left.folder.stat().st_mode & 0o777 == 0o700
    assert not left.folder.exists()
    assert {child.pid for child in psutil.Process().children()} <= before


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
