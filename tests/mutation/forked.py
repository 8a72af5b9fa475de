"""A pytest plugin that runs the collected tests once per mutant, each time in a forked child, until one fails.

Knows no pytest start per mutant, which costs far more than these tests; and not what the mutants change.

Needs a module that mutmut has written: each function with all its mutants beside it and a switch in front.
"""

import contextlib
import gc
import json
import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state
from mutmut.utils.format_utils import mangled_name_from_mutant_name

MUTANTS = "DAEMONPULSE_MUTANTS"
"""Environment: a file with the names of the mutants, one a line."""
OUTCOMES = "DAEMONPULSE_MUTANT_OUTCOMES"
"""Environment: where the outcomes go, as JSON by mutant."""
_PATIENCE = 10
"""A test may take so many times the CPU time it takes without a mutant, and 1 s more."""

Covering = dict[str, list[tuple[float, pytest.Item]]]


def pytest_runtestloop(session: pytest.Session) -> bool:
    """Take the place of pytest's own loop."""
    names = Path(os.environ[MUTANTS]).read_text(encoding="utf-8").split()
    covering = _measured(session)
    gc.freeze()  # children then copy fewer pages
    outcomes: dict[str, str] = {}
    try:
        for name in names:
            tests = sorted(covering[mangled_name_from_mutant_name(name)], key=lambda one: one[0])
            outcomes[name] = _outcome(name, tests) if tests else "no test"
            _progress(len(outcomes), len(names), name, outcomes[name])
    finally:
        Path(os.environ[OUTCOMES]).write_text(json.dumps(outcomes), encoding="utf-8")
    return True


def _measured(session: pytest.Session) -> Covering:
    """Run every test once as it is; return by function which tests reach it, and how long each takes."""
    covering: Covering = defaultdict(list)
    set_mutant_under_test("stats")
    for item in session.items:
        state()._stats.clear()
        began = time.process_time()
        if not _passes(item):
            pytest.exit(f"{item.nodeid} fails without any mutant", returncode=1)
        for function in state()._stats:
            covering[function].append((time.process_time() - began, item))
    return covering


def _passes(item: pytest.Item) -> bool:
    return all(not report.failed for report in runtestprotocol(item, log=False, nextitem=None))


def _outcome(name: str, tests: list[tuple[float, pytest.Item]]) -> str:
    child = os.fork()
    if child == 0:
        with _ending_here():
            set_mutant_under_test(name)
            for duration, item in tests:
                signal.setitimer(signal.ITIMER_PROF, 1 + _PATIENCE * duration)  # SIGPROF ends the child
                if not _passes(item):
                    os._exit(1)
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "timeout"
    return "survived" if os.WEXITSTATUS(status) == 0 else "killed"


@contextlib.contextmanager
def _ending_here() -> Iterator[None]:
    """Never let a child back into the parent's loop."""
    try:
        yield
    finally:
        os._exit(1)


def _progress(done: int, total: int, name: str, outcome: str) -> None:
    with Path(os.environ[OUTCOMES]).with_suffix(".log").open("a", encoding="utf-8") as log:
        log.write(f"{done}/{total} {name} {outcome}\n")
