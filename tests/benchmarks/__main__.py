"""Runs every benchmark, or those named, and prints one table with ratios.

Judges nothing: a goal that was missed is said in its row. What is measured beside what is each benchmark's own.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator
from typing import Final

from exporter.shared import process
from tests.benchmarks import (
    bench_actions,
    bench_drm,
    bench_fleet,
    bench_mcp,
    bench_nvml,
    bench_pulse,
    bench_scrape,
    bench_tap,
    curves,
)
from tests.benchmarks.table import HEAD, Row

BENCHMARKS: Final[dict[str, Callable[..., Iterator[Row]]]] = {
    "ingest": bench_pulse.rows,
    "spans": bench_pulse.span_rows,
    "memory": bench_pulse.memory_rows,
    "scrape": bench_scrape.rows,
    "idle": bench_scrape.idle_rows,
    "nvml": bench_nvml.rows,
    "drm": bench_drm.rows,
    "actions": bench_actions.rows,
    "fleet": bench_fleet.rows,
    "mcp": bench_mcp.rows,
    "tap": bench_tap.rows,
    "curves": curves.rows,
}


def main(arguments: list[str] | None = None) -> None:
    """Print the table, each row as soon as it is known."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHMARKS)}; none: all of them"
    )
    parser.add_argument(
        "--quick", action="store_true", help="smallest sizes, once: whether it works, not how fast"
    )
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    process.raise_gc_threshold()  # as both programs do
    load = os.getloadavg()[0]
    print(
        f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, load {load:.1f}"
    )
    print(HEAD)
    started = time.monotonic()
    for name in chosen.names or BENCHMARKS:
        for row in BENCHMARKS[name](quick=chosen.quick):
            print(row.line(), flush=True)
    print(f"took {time.monotonic() - started:.0f} s; load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
