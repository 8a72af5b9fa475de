"""Soak DaemonPulse: an hour of a busy daemon, compressed. Run as `python -m tests.soak`; exits with 1 on a leak.

Knows the parts and how to run them, each in a process of its own, as many at once as there are cores: what one holds
is never mistaken for what another one leaks. `--predictions 10000000 --hours 10` is for a night.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.soak.footprint import Curve

PREDICTIONS = 1_000_000
HOUR_S = 3600
ATTEMPTS_PER_HOUR = 1_600
"""3 s less the jitter, 2.25 s on average: that often a daemon that is down is tried in an hour."""
LEAKS = ("events", "sockets", "tasks")

Outcome = tuple[Curve, list[str]]
"""The curve of a part, and what else is wrong."""


# Each part imports what it needs, so that its curve starts with what the exporter alone would hold.


def _counted(options: argparse.Namespace) -> Outcome:
    from tests.soak import pipeline

    return pipeline.soak(
        "counted",
        predictions=max(options.predictions - _traced_share(options), 20_000),
        seconds=options.hours * HOUR_S,
        traced=False,
        seed_leak=options.leak == "events",
    )


def _traced(options: argparse.Namespace) -> Outcome:
    from tests.soak import pipeline

    return pipeline.soak(
        "traced", predictions=_traced_share(options), seconds=options.hours * HOUR_S, traced=True
    )


def _traced_share(options: argparse.Namespace) -> int:
    """Of all predictions every 25th is traced, which costs several times as much; enough to fill what is bounded."""
    return max(int(options.predictions) // 25, 20_000)


def _wire(options: argparse.Namespace) -> Outcome:
    from tests.soak import wire

    return asyncio.run(wire.soak(seconds=round(options.hours * HOUR_S), leak=options.leak))


def _actions(options: argparse.Namespace) -> Outcome:
    from tests.soak import forge

    return asyncio.run(forge.soak(cycles=round(options.hours * options.cycles)))


def _receiver(options: argparse.Namespace) -> Outcome:
    from tests.soak import absent

    return absent.receiver_away(predictions=max(_traced_share(options), absent.LEAST_PREDICTIONS))


def _daemon_away(kind: str, share: int) -> Callable[[argparse.Namespace], Outcome]:
    def run(options: argparse.Namespace) -> Outcome:
        from tests.soak import absent

        attempts = round(options.hours * ATTEMPTS_PER_HOUR) // share
        return asyncio.run(absent.daemon_away(kind, attempts=attempts))

    return run


PARTS: dict[str, Callable[[argparse.Namespace], Outcome]] = {
    "counted": _counted,
    "wire": _wire,
    "actions": _actions,
    "receiver": _receiver,
    "traced": _traced,
    "unreachable": _daemon_away("unreachable", 1),
    # Down is the usual case; the other ways not to be readable are tried a quarter as often.
    "auth": _daemon_away("auth", 4),
    "upgrade_refused": _daemon_away("upgrade_refused", 4),
}
"""The longest first, so that no core waits at the end."""


def run_here(name: str, options: argparse.Namespace) -> int:
    """Run one part in this process."""
    logging.basicConfig(level=logging.ERROR)  # the cuts are ours, and so is what is said about them
    started, cpu = time.monotonic(), time.process_time()
    curve, problems = PARTS[name](options)
    print(curve.table())
    print(f"  {time.monotonic() - started:.0f} s, {time.process_time() - cpu:.0f} s of CPU")
    for problem in (*problems, *curve.leaks()):
        print(f"  WRONG: {problem}")
    return 1 if problems or curve.leaks() else 0


def run_apart(name: str, arguments: Sequence[str]) -> int:
    """Run one part in a process of its own; print what it says when it is done."""
    command = [sys.executable, "-m", "tests.soak", *arguments, "--here", name]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wrong = (
        f"  WRONG: {name} ended with exit code {done.returncode}\n" if done.returncode not in {0, 1} else ""
    )
    print(f"{done.stdout}{wrong}", flush=True)
    return done.returncode


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that were chosen; return 0 when memory was flat and every sum exact."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--predictions", type=int, default=PREDICTIONS, help="[default: %(default)s]")
    parser.add_argument(
        "--hours",
        type=float,
        default=1.0,
        help="virtual hours; in less, caches may still fill [default: %(default)s]",
    )
    parser.add_argument(
        "--cycles", type=int, default=120, help="of the actions API per hour [default: %(default)s]"
    )
    parser.add_argument("--only", action="append", default=[], metavar="PART", help="repeatable")
    parser.add_argument("--leak", choices=LEAKS, help="seed a leak, to see it found")
    parser.add_argument("--here", metavar="PART", help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    names = list(PARTS)
    unknown = {*options.only, options.here or names[0]} - set(names)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if options.here:
        return run_here(options.here, options)
    chosen = [name for name in names if not options.only or name in options.only]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        codes = list(pool.map(lambda name: run_apart(name, given), chosen))
    return max(map(abs, codes))


if __name__ == "__main__":
    sys.exit(main())
