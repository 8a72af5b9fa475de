"""Reads the host's memory, the daemon's process and its engines' processes.

Of llmster it depends only on process names. What is not visible (another pid namespace, another user, a process that
just ended) is absent, never 0.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol, TypeVar

import psutil

T = TypeVar("T")

DAEMON_MARKS: Final = ("llmster", "lmstudio", "lm-studio", "lm studio")
"""Assumed: one of these is in the name, path or command line of every LM Studio daemon or app."""
ENGINE_MARKS: Final = ("llama-server", "llmworker")
"""Observed on Linux and Windows: the child that holds a model is llama-server, or node running llmworker.js."""
_MODEL_OPTIONS: Final = ("-m", "--model")
_MODEL_SUFFIXES: Final = (".gguf", ".safetensors")


class ProcessRole(StrEnum):
    """The role of a process."""

    DAEMON = "daemon"
    ENGINE = "engine"


@dataclass(frozen=True, slots=True)
class HostMemory:
    """The host's RAM. `available` is what could be given out without swapping. Source: psutil."""

    total_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class HostProcess:
    """The daemon or one of its engines. Source: psutil."""

    pid: int
    role: ProcessRole
    name: str | None = None
    resident_bytes: int | None = None
    cpu_seconds: float | None = None
    """User and system time since it started."""
    model_path: str | None = None
    """The model file on an engine's command line; nothing else of a command line is kept."""


@dataclass(frozen=True, slots=True)
class HostReading:
    """The host at one moment."""

    memory: HostMemory | None = None
    processes: tuple[HostProcess, ...] = ()
    """The daemon first, then its engines by pid; empty when the daemon's process cannot be seen from here."""
    parents: tuple[tuple[int, int | None], ...] = ()
    """(pid, parent pid) of everything the daemon has started, engine or not."""


class HostSource(Protocol):
    """A source of readings: this host, or a simulated one. Called from one thread at a time."""

    def read(self, daemon_pid: int | None) -> HostReading:
        """Read memory and the processes below one daemon."""
        ...

    def name_of(self, pid: int) -> str | None:
        """Name any process, or None when it cannot be seen."""
        ...


class LocalHost:
    """The HostSource of this host."""

    def read(self, daemon_pid: int | None) -> HostReading:
        """Read memory and the processes below one daemon."""
        return read_host(daemon_pid)

    def name_of(self, pid: int) -> str | None:
        """Name any process of this host, or None when it cannot be seen from here."""
        return _try(lambda: psutil.Process(pid).name())


def read_host(daemon_pid: int | None) -> HostReading:
    """Read memory and, when `daemon_pid` is an LM Studio process of this host, the processes under it.

    A pid is meaningless in another pid namespace or host, so a pid of any other process counts as not visible.
    """
    memory = read_memory()
    daemon = _find_daemon(daemon_pid)
    if daemon is None:
        return HostReading(memory)
    children: list[psutil.Process] = _try(lambda: daemon.children(recursive=True)) or []
    engines = sorted((child for child in children if _is_engine(child)), key=lambda child: child.pid)
    return HostReading(
        memory=memory,
        processes=(
            _describe(daemon, ProcessRole.DAEMON),
            *(_describe(engine, ProcessRole.ENGINE) for engine in engines),
        ),
        parents=tuple((child.pid, _try(child.ppid)) for child in children),
    )


def read_memory() -> HostMemory | None:
    """Read the host's RAM; None where /proc is not to be read."""
    memory = _try(psutil.virtual_memory)
    return None if memory is None else HostMemory(total_bytes=memory.total, available_bytes=memory.available)


def model_path_of(command_line: list[str]) -> str | None:
    """Find the model file on an engine's command line.

    Assumed: llama-server is given `-m FILE` or `--model FILE` (its documented options); otherwise the first argument
    that ends like a model file counts.
    """
    for option, value in itertools.pairwise(command_line):
        if option in _MODEL_OPTIONS:
            return value
    for argument in command_line[1:]:
        option, equals, value = argument.partition("=")
        if equals and option in _MODEL_OPTIONS:
            return value
        if argument.lower().endswith(_MODEL_SUFFIXES):
            return argument
    return None


def _find_daemon(pid: int | None) -> psutil.Process | None:
    if pid is None or pid <= 0:
        return None
    process = _try(lambda: psutil.Process(pid))
    if process is None or not any(mark in text.lower() for text in _texts(process) for mark in DAEMON_MARKS):
        return None
    return process


def _is_engine(process: psutil.Process) -> bool:
    return any(mark in text for text in _texts(process) for mark in ENGINE_MARKS)


def _texts(process: psutil.Process) -> Iterator[str]:
    """Yield the texts that identify a process: the program and its script, not the arguments after them."""
    yield _try(process.name) or ""
    yield from (_try(process.cmdline) or [])[:2]


def _describe(process: psutil.Process, role: ProcessRole) -> HostProcess:
    with process.oneshot():
        memory = _try(process.memory_info)
        times = _try(process.cpu_times)
        return HostProcess(
            pid=process.pid,
            role=role,
            name=_try(process.name),
            resident_bytes=None if memory is None else memory.rss,
            cpu_seconds=None if times is None else times.user + times.system,
            model_path=model_path_of(_try(process.cmdline) or []) if role is ProcessRole.ENGINE else None,
        )


def _try(question: Callable[[], T]) -> T | None:
    """Answer, or None when the process has ended, is a zombie or is not readable."""
    try:
        return question()
    except (psutil.Error, OSError):
        return None
