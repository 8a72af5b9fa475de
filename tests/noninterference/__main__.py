"""Compare many pairs of twins: `python -m tests.noninterference --pairs 10000`. Ends with 1 at the first difference."""

import sys
import time
from random import Random

import click

from tests.noninterference import exporter_channels
from tests.noninterference.twins import Twin


@click.command()
@click.option("--pairs", default=10_000, show_default=True, help="How many pairs to run.")
@click.option("--first", default=0, show_default=True, help="Seed of the first pair.")
def main(pairs: int, first: int) -> None:
    """Run pairs of twins and compare every channel byte by byte."""
    started_s = time.monotonic()
    compared = 0
    for number in range(pairs):
        mine, theirs = (exporter_channels.run(Twin(Random(first + number), turn)) for turn in (0, 1))
        found = exporter_channels.differing(mine, theirs)
        if found:
            click.echo(f"seed {first + number}: {found}")
            sys.exit(1)
        compared += sum(len(said) for said in mine.values())
        if (number + 1) % 500 == 0 or number + 1 == pairs:
            click.echo(
                f"{number + 1} pairs alike, {compared / 1e6:.0f} MB compared, {time.monotonic() - started_s:.0f} s"
            )


if __name__ == "__main__":
    main()
