"""A pytest plugin that runs the collected tests once per mutant, each time in a forked child, until one fails.

Knows no pytest start per mutant, which costs far more than these tests; and not what the mutants change.

Needs a module that mutmut has written: each function with all its mutants beside it and a switch in front.
"""

import contextlib
import functools
import gc
import itertools
import json
import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from _pytest.tmpdir import tmppath_result_key
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state
from mutmut.utils.format_utils import mangled_name_from_mutant_name

MUTANTS = "DAEMONPULSE_MUTANTS"
"""Environment: a file with the names of the mutants, one a line."""
OUTCOMES = "DAEMONPULSE_MUTANT_OUTCOMES"
"""Environment: where the outcomes go, as JSON by mutant."""
_NONE = 255
_MOST = 255
"""An exit status says which test noticed, so that many take part: the quickest ones."""
_PATIENCE = 5
"""A test may take so many times the CPU time it takes without a mutant, and 1 s more."""
_ENOUGH_S = 3.0
"""CPU seconds of tests per mutant: the dearest ones beyond that take no part."""


@dataclass(slots=True)
class Timed:
    """One test, the CPU time it takes without a mutant, and how many mutants it has killed."""

    item: pytest.Item
    duration_s: float
    kills: int = 0

    @property
    def price(self) -> float:
        """The less, the sooner it should be asked."""
        return self.duration_s / (1 + self.kills)


Covering = dict[str, list[Timed]]


def pytest_runtestloop(session: pytest.Session) -> bool:
    """Take the place of pytest's own loop."""
    names = Path(os.environ[MUTANTS]).read_text(encoding="utf-8").split()
    covering = _measured(session)
    for cached in gc.get_objects():
        if isinstance(cached, functools._lru_cache_wrapper):
            cached.cache_clear()  # what it holds was computed without a mutant
    gc.freeze()  # children then copy fewer pages
    outcomes: dict[str, str] = {}
    try:
        for name in names:
            tests = sorted(covering[mangled_name_from_mutant_name(name)], key=lambda one: one.price)
            outcomes[name] = _outcome(name, _affordable(tests)) if tests else "no test"
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
        try:
            _run(item)
        except BaseException as fault:  # noqa: BLE001 - pytest's own outcomes are no Exceptions
            pytest.exit(f"{item.nodeid} fails without any mutant: {fault!r}", returncode=1)
        timed = Timed(item, time.process_time() - began)
        for function in state()._stats:
            covering[function].append(timed)
    return covering


def _run(item: pytest.Item) -> None:
    """Run one test, fixtures included, without the report that pytest would write: it costs more than most tests."""
    item._initrequest()  # type: ignore[attr-defined]
    item.stash[tmppath_result_key] = {}  # what a report would write, and tmp_path reads at its end
    try:
        item.ihook.pytest_runtest_setup(item=item)
        item.ihook.pytest_runtest_call(item=item)
    finally:
        item.ihook.pytest_runtest_teardown(item=item, nextitem=None)


def _affordable(tests: list[Timed]) -> list[Timed]:
    """Choose of tests in their order as many as a mutant may cost, one at least."""
    spent = itertools.accumulate(timed.duration_s for timed in tests)
    return tests[: max(1, min(_MOST, sum(so_far <= _ENOUGH_S for so_far in spent)))]


def _outcome(name: str, tests: list[Timed]) -> str:
    child = os.fork()
    if child == 0:
        with _ending_here():
            _be(name, tests)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "timeout"
    killer = os.WEXITSTATUS(status)
    if killer == _NONE:
        return "survived"
    tests[killer].kills += 1
    return "killed"


def _be(name: str, tests: list[Timed]) -> None:
    """Run the tests on one mutant; exit with the number of the one that failed."""
    set_mutant_under_test(name)
    for number, timed in enumerate(tests):
        signal.setitimer(signal.ITIMER_PROF, 1 + _PATIENCE * timed.duration_s)  # SIGPROF ends the child
        try:
            _run(timed.item)
        except BaseException:  # noqa: BLE001 - pytest's own outcomes are no Exceptions
            os._exit(number)
    os._exit(_NONE)


@contextlib.contextmanager
def _ending_here() -> Iterator[None]:
    """Never let a child back into the parent's loop."""
    try:
        yield
    finally:
        os._exit(_NONE)


def _progress(done: int, total: int, name: str, outcome: str) -> None:
    with Path(os.environ[OUTCOMES]).with_suffix(".log").open("a", encoding="utf-8") as log:
        log.write(f"{done}/{total} {name} {outcome}\n")
