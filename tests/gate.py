"""Run every check of the project, one after the other: the same command locally and in CI.

Knows which checks there are and how to start them, nothing of what they check. Run as `python -m tests.gate`.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parent.parent

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Step:
    """One check: its name for --only, and its command."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one step ended."""

    name: str
    returncode: int | None
    """None when the step was not run, because an earlier one failed under --fail-fast."""

    duration_s: float = 0.0

    def __str__(self) -> str:
        if self.returncode is None:
            return f"{self.name:<13} not run"
        word = "ok" if self.returncode == 0 else f"FAILED (exit {self.returncode})"
        return f"{self.name:<13} {self.duration_s:7.1f} s  {word}"


def steps(*, fast: bool = False) -> tuple[Step, ...]:
    """Return the checks in the order they run, the tests last.

    `fast` leaves out tests that talk to servers, need programs or take long, and tries few examples of each property.
    """
    python = sys.executable
    # Console scripts of tools without a usable __main__ are beside the interpreter.
    scripts = Path(python).parent
    tier = ("-m", "not slow and not external", "--hypothesis-profile=fast") if fast else ()
    return (
        Step("format", (python, "-m", "ruff", "format", "--check", ".")),
        Step("lint", (python, "-m", "ruff", "check", ".")),
        Step("types", (python, "-m", "mypy")),
        Step("imports", (str(scripts / "lint-imports"),)),
        Step("dependencies", (python, "-m", "deptry", ".", "--no-ansi")),
        Step("spelling", (str(scripts / "codespell"),)),
        Step("tests", (python, "-m", "pytest", "-n", str(_workers(fast=fast)), "--dist=worksteal", *tier)),
    )


def _workers(*, fast: bool) -> int:
    """Return how many processes run tests: many of the slow tests wait for other processes."""
    cores = os.cpu_count() or 1
    return min(4, cores if fast else cores + 1)


def run_step(step: Step, *, clock: Clock = time.monotonic, extra: Sequence[str] = ()) -> Outcome:
    """Run one step in the project's root, its output going straight through."""
    shown = shlex.join(Path(part).name if index == 0 else part for index, part in enumerate(step.command))
    print(f"\n== {step.name}: {shown}", flush=True)
    started = clock()
    try:
        returncode = subprocess.run([*step.command, *extra], cwd=ROOT, check=False).returncode
    except FileNotFoundError:
        print(f"{step.command[0]} is not installed; run: pip install -e '.[test]'", flush=True)
        returncode = 127
    outcome = Outcome(step.name, returncode, clock() - started)
    print(f"== {outcome}", flush=True)
    return outcome


def closing_line(report: Path) -> str:
    """Sum up pytest's JUnit report as `N passed, N failed, N skipped`; a missing report counts as one failure."""
    if not report.is_file() or not report.stat().st_size:
        return "0 passed, 1 failed, 0 skipped"
    # Written a moment ago by our own pytest, so not the untrusted XML that S314 is about.
    suites = list(ET.parse(report).getroot().iter("testsuite"))  # noqa: S314

    def total(key: str) -> int:
        return sum(int(suite.get(key, "0")) for suite in suites)

    failed = total("failures") + total("errors")
    skipped = total("skipped")
    return f"{total('tests') - failed - skipped} passed, {failed} failed, {skipped} skipped"


def run(chosen: Sequence[Step], *, fail_fast: bool, clock: Clock = time.monotonic) -> int:
    """Run the steps, print the table of outcomes and return the exit status: 0 when every step passed."""
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "junit.xml"
        for step in chosen:
            if fail_fast and any(outcome.returncode for outcome in outcomes):
                outcomes.append(Outcome(step.name, None))
                continue
            extra = (f"--junitxml={report}",) if step.name == "tests" else ()
            outcomes.append(run_step(step, clock=clock, extra=extra))
        print("\n== gate")
        for outcome in outcomes:
            print(outcome)
        if any(outcome.name == "tests" and outcome.returncode is not None for outcome in outcomes):
            print(closing_line(report), flush=True)
    return 1 if any(outcome.returncode != 0 for outcome in outcomes) else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and run the gate."""
    names = [step.name for step in steps()]
    parser = argparse.ArgumentParser(
        prog="python -m tests.gate",
        description="Run every check of the project. All of them run even when one fails; "
        "the exit status is 0 only when all passed.",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=names,
        metavar="NAME",
        help=f"run only this: {', '.join(names)}; repeatable",
    )
    parser.add_argument(
        "--fast", action="store_true", help="leave out tests that talk to servers, need programs or take long"
    )
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first step that fails")
    options = parser.parse_args(argv)
    chosen = [step for step in steps(fast=options.fast) if options.only is None or step.name in options.only]
    return run(chosen, fail_fast=options.fail_fast)


if __name__ == "__main__":
    sys.exit(main())
