"""`python -m tests.causes`: play labelled faults and healthy days, and print what the rules name."""

import argparse
import logging
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.causes.faults import HEALTHY, drawn
from tests.causes.judge import Verdict, confusion, play_and_judge
from tests.external import TOOLS

BATCH = 25


def _batch(arguments: tuple[Path, int, int, int, bool]) -> list[tuple[bool, tuple[str, ...]]]:
    promtool, first, count, seed, healthy = arguments
    logging.disable(logging.CRITICAL)
    faults = (
        [HEALTHY[number % len(HEALTHY)] for number in range(count)]
        if healthy
        else [*drawn(first + count, seed)][first:]
    )
    return [(one.fired, one.named) for one in play_and_judge(promtool, faults, seed + first + 1)]


def main() -> int:
    """Return 1 where fewer than 95 % were named right, or a healthy day had a cause."""
    parser = argparse.ArgumentParser(prog="python -m tests.causes", description=__doc__)
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--days", type=int, default=27, help="healthy days")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    promtool = TOOLS["promtool"].find()
    if promtool is None:
        parser.error(f"needs promtool: {TOOLS['promtool'].install}")
    batches = [
        (promtool, first, min(BATCH, total - first), options.seed, healthy)
        for total, healthy in ((options.faults, False), (options.days, True))
        for first in range(0, total, BATCH)
    ]
    faults = [*drawn(options.faults, options.seed)]
    verdicts: list[Verdict] = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for (_, first, _, _, healthy), found in zip(batches, pool.map(_batch, batches), strict=True):
            for number, (fired, named) in enumerate(found):
                fault = HEALTHY[number % len(HEALTHY)] if healthy else faults[first + number]
                verdict = Verdict(fault, f"{first + number}", fired, named)
                verdicts.append(verdict)
                if not verdict.right:
                    what = verdict.first or ("none" if fired else "no alert")
                    print(f"{fault.name} ({fault.alert}): {fault.label} was done, {what} named", flush=True)
    print(confusion(verdicts))
    of_faults = [verdict for verdict in verdicts if verdict.fault.alert]
    right = sum(verdict.right for verdict in of_faults)
    wrong = sum(verdict.first not in (None, verdict.fault.label) for verdict in of_faults)
    double = sum(verdict.fault.is_double for verdict in of_faults)
    days = [verdict for verdict in verdicts if not verdict.fault.alert]
    quiet = sum(verdict.right for verdict in days)
    print(f"{len(of_faults)} faults ({double} double): {right} right first, {wrong} named another cause")
    print(f"{len(days)} healthy days: {quiet} without a cause")
    return 0 if right >= 0.95 * len(of_faults) and quiet == len(days) else 1


if __name__ == "__main__":
    sys.exit(main())
