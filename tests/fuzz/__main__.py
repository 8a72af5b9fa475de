"""Fuzzes by coverage, target after target, with a line of progress: python -m tests.fuzz --runs 1000000.

Knows no target's inside. An input that breaks one is kept in found/, where test_targets.py runs it from then on.
Needs atheris, which is no part of the test dependencies: pip install atheris (3.0.0 was used, with CPython 3.11).
"""

import argparse
import importlib.util
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.fuzz.target import FOUND, found_name
from tests.fuzz.targets import BY_NAME

CORPUS = Path(__file__).parents[2] / ".fuzz"
"""Inputs that reached something new; git ignores them, the next run begins with them."""

_PROGRESS = re.compile(r"#(?P<runs>\d+)\s.*?cov: (?P<cov>\d+).*?corp: (?P<corpus>\d+)")
_BROKEN = re.compile(r"Test unit written to (?P<path>.*)")
_EVERY_S = 5.0


@dataclass(slots=True)
class Seen:
    """What libFuzzer has told of one target."""

    name: str
    runs: int = 0
    branches: int = 0
    corpus: int = 0
    found: Path | None = None
    failed: bool = False
    """Whether the process ended as it should not, with or without an input to show for it."""

    def take(self, line: str) -> None:
        """Read one line of its output."""
        progress, broken = _PROGRESS.match(line), _BROKEN.search(line)
        if progress:
            self.runs, self.branches = int(progress["runs"]), int(progress["cov"])
            self.corpus = int(progress["corpus"])
        if broken:
            self.found = _kept(self.name, Path(broken["path"].strip()))

    def line(self, seconds: float) -> str:
        """Sum up in one line."""
        each = f"{self.runs / seconds:,.0f}/s" if seconds >= 1 else ""
        end = f"  BROKEN by {self.found}" if self.found else "  FAILED" if self.failed else ""
        return (
            f"{self.name:<12} {self.runs:>9,} inputs {each:>9} {self.branches:>6,} branches {self.corpus:>5,} kept "
            f"{seconds:>6.0f} s{end}"
        )


def _kept(name: str, artifact: Path) -> Path:
    """Give an input that broke a target its name for ever."""
    return artifact.rename(FOUND / found_name(name, artifact.read_bytes()))


def run(name: str, *, runs: int, seconds: int, corpus: Path) -> Seen:
    """Fuzz one target in a process of its own; print progress, and what went wrong if something did."""
    command = [
        sys.executable,
        "-m",
        "tests.fuzz.coverage",
        name,
        str(corpus),
        f"--runs={runs}",
        f"--seconds={seconds}",
    ]
    seen, started, told = Seen(name), time.monotonic(), 0.0
    with subprocess.Popen(
        command, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True, errors="replace"
    ) as child:
        assert child.stdout is not None
        said = _follow(child.stdout, seen, started, told)
    seen.failed = child.returncode != 0
    print(seen.line(time.monotonic() - started), flush=True)
    if seen.failed:
        print("".join(said[-60:]), flush=True)
    return seen


def _follow(output: IO[str], seen: Seen, started: float, told: float) -> list[str]:
    said: list[str] = []
    for line in output:
        said.append(line)
        del said[:-200]
        seen.take(line)
        now = time.monotonic()
        if now - told >= _EVERY_S and seen.runs:
            told = now
            print(f"  {seen.line(now - started)}", end="\r" if sys.stdout.isatty() else "\n", flush=True)
    return said


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and fuzz; the status is 1 when something broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000, help="inputs per target")
    parser.add_argument(
        "--seconds", type=int, default=0, help="stop a target after so long; 0: when its runs are done"
    )
    parser.add_argument(
        "--target", action="append", choices=sorted(BY_NAME), help="only this one; repeatable"
    )
    parser.add_argument(
        "--corpus", type=Path, default=CORPUS, help="folder of inputs to begin with and to keep"
    )
    options = parser.parse_args(argv)
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed; run: pip install atheris", file=sys.stderr)
        return 2
    limits = {"runs": options.runs, "seconds": options.seconds}
    outcomes = [
        run(name, **limits, corpus=options.corpus / name) for name in options.target or sorted(BY_NAME)
    ]
    failed = sum(one.failed for one in outcomes)
    print(f"\n{sum(one.runs for one in outcomes):,} inputs, {failed} of {len(outcomes)} targets failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
