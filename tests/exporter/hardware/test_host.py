"""The host and its processes: real ones, started here, that look like a daemon and its engines."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from exporter.hardware.host import LocalHost, ProcessRole, model_path_of, read_host, read_memory

PARENT = """
import subprocess, sys
here = sys.argv[1]
commands = [
    [f"{here}/llama-server", "--port", "1", "-m", "/models/a/b/c.gguf"],
    [f"{here}/llmworker.js"],
    [f"{here}/mcp-server.py", "llama-server"],
]
children = [subprocess.Popen([sys.executable, *command], stdin=subprocess.PIPE) for command in commands]
print(*(child.pid for child in children), flush=True)
sys.stdin.read()
for child in children:
    child.stdin.close()
    child.wait()
"""
CHILD = "import sys; sys.stdin.read()"

Family = tuple[int, list[int]]
Start = Callable[[str], Family]


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def start_daemon(name: str) -> Family:
        here = tmp_path_factory.mktemp("programs")
        (here / name).write_text(PARENT, encoding="utf-8")
        for child in ("llama-server", "llmworker.js", "mcp-server.py"):
            (here / child).write_text(CHILD, encoding="utf-8")
        daemon = subprocess.Popen(
            [sys.executable, here / name, here], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(daemon)
        assert daemon.stdout is not None
        return daemon.pid, [int(pid) for pid in daemon.stdout.readline().split()]

    yield start_daemon
    for daemon in started:
        daemon.communicate()


def test_memory_is_the_hosts() -> None:
    memory = read_memory()
    assert memory is not None
    assert 0 < memory.available_bytes < memory.total_bytes


def test_the_daemon_and_its_engines_are_found_below_its_pid(start: Start) -> None:
    pid, (server, worker, plugin) = start("llmster")
    reading = read_host(pid)
    roles = {process.pid: process.role for process in reading.processes}
    assert roles == {pid: ProcessRole.DAEMON, server: ProcessRole.ENGINE, worker: ProcessRole.ENGINE}
    assert dict(reading.parents) == {server: pid, worker: pid, plugin: pid}
    by_pid = {process.pid: process for process in reading.processes}
    assert by_pid[server].model_path == "/models/a/b/c.gguf"
    assert by_pid[worker].model_path is None
    assert all(process.resident_bytes and process.cpu_seconds is not None for process in reading.processes)


def test_a_pid_of_something_else_is_taken_as_not_visible(start: Start) -> None:
    pid, _ = start("postgres")
    reading = read_host(pid)
    assert reading.memory is not None
    assert reading.processes == ()


@pytest.mark.parametrize("pid", [None, 0, -1, 2**22 + 1])
def test_a_pid_that_is_nobodys_leaves_the_memory_alone(pid: int | None) -> None:
    reading = read_host(pid)
    assert reading.memory is not None
    assert (reading.processes, reading.parents) == ((), ())


def test_what_may_not_be_looked_at_is_absent_and_the_rest_is_not(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid, _ = start("llmster")

    def denied(process: Any) -> None:
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(type(vars(psutil.Process())["_proc"]), "memory_info", denied)
    daemon = read_host(pid).processes[0]
    assert daemon.resident_bytes is None
    assert daemon.cpu_seconds is not None


def test_an_engine_that_has_just_gone_costs_its_own_values_only(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid, (server, worker, _) = start("llmster")
    platform = type(vars(psutil.Process())["_proc"])
    real = platform.cpu_times

    def gone(process: Any) -> Any:
        if process.pid == server:
            raise psutil.NoSuchProcess(process.pid)
        return real(process)

    monkeypatch.setattr(platform, "cpu_times", gone)
    by_pid = {process.pid: process for process in read_host(pid).processes}
    assert by_pid[server].cpu_seconds is None
    assert by_pid[worker].cpu_seconds is not None


def test_a_process_is_named_and_a_missing_one_is_not() -> None:
    assert LocalHost().name_of(os.getpid()) == psutil.Process().name()
    assert LocalHost().name_of(2**22 + 1) is None


@pytest.mark.parametrize(
    ("command_line", "path"),
    [
        (["llama-server", "--port", "1", "-m", "/a/b.gguf"], "/a/b.gguf"),
        (["llama-server", "--model", "/a/b.gguf", "--api-key", "secret"], "/a/b.gguf"),
        (["llama-server", "--model=/a/b.gguf"], "/a/b.gguf"),
        (["node", "llmworker.js", "/a/B.GGUF"], "/a/B.GGUF"),
        (["node", "llmworker.js"], None),
        (["llama-server", "-m"], None),
        ([], None),
    ],
)
def test_the_model_is_read_from_the_command_line(command_line: list[str], path: str | None) -> None:
    assert model_path_of(command_line) == path


def test_nothing_is_read_from_a_host_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable() -> None:
        raise FileNotFoundError(Path("/proc/meminfo"))

    monkeypatch.setattr(psutil, "virtual_memory", unreadable)
    assert read_memory() is None
