"""Play every action without each field of the daemon's answers that it needs, and without all others at once.

`python -m tests.upgrade`; ends with 1 where an action does not do what it declares.
"""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat

import click

from tests.upgrade.acting import SCENES
from tests.upgrade.fields import CHANGES
from tests.upgrade.judging import ANY_VALUE, NotAsEver, Rehearsed


async def _scene(number: int, changes: Sequence[str], *, singly: bool) -> tuple[int, list[str]]:
    try:
        rehearsed = await Rehearsed.of(SCENES[number])
    except NotAsEver as error:
        return 0, [str(error)]
    played = [(call, [path]) for call, path in rehearsed.needed()]
    others = rehearsed.others()
    played += (
        [(call, [path]) for call, paths in others.items() for path in paths] if singly else [*others.items()]
    )
    faults = [
        await rehearsed.fault(call, paths, change, rehearsed.expected(call, paths[0]))
        for call, paths in played
        for change in changes
        if change != "retyped" or (call, paths[0]) not in ANY_VALUE
    ]
    return len(faults), [fault for fault in faults if fault is not None]


def _run(number: int, changes: Sequence[str], singly: bool) -> tuple[int, list[str]]:  # noqa: FBT001 - mapped
    logging.disable(logging.CRITICAL)
    return asyncio.run(_scene(number, changes, singly=singly))


@click.command()
@click.option("--action", "wanted", multiple=True, help="Only these actions.")
@click.option("--change", "changes", multiple=True, type=click.Choice(list(CHANGES)), help="Only these.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default=True)
@click.option("--singly", is_flag=True, help="Change fields that are not declared one by one as well.")
def main(*, wanted: tuple[str, ...], changes: tuple[str, ...], jobs: int, singly: bool) -> None:
    """Play all scenes and compare. What an action does not declare is changed all at once, by call."""
    started_s = time.monotonic()
    chosen = [number for number, scene in enumerate(SCENES) if not wanted or scene.action in wanted]
    cases, faulty = 0, 0
    with ProcessPoolExecutor(jobs) as pool:
        for number, (played, faults) in zip(
            chosen, pool.map(_run, chosen, repeat(changes or tuple(CHANGES)), repeat(singly)), strict=True
        ):
            cases, faulty = cases + played, faulty + len(faults)
            scene = SCENES[number]
            click.echo(f"{scene.action} {scene.when}: {played} cases, {len(faults)} not as declared")
            for fault in faults:
                click.echo(f"  {fault}")
    click.echo(f"{cases} cases, {faulty} not as declared, {time.monotonic() - started_s:.0f} s")
    sys.exit(1 if faulty else 0)


if __name__ == "__main__":
    main()
