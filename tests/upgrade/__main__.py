"""Play every action without each field of the daemon's answers, one after the other: `python -m tests.upgrade`.

Ends with 1 where an action does not do what it declares.
"""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import click

from tests.upgrade.acting import SCENES
from tests.upgrade.fields import CHANGES
from tests.upgrade.judging import ANY_VALUE, Rehearsed


async def _scene(number: int, changes: Sequence[str]) -> tuple[int, list[str]]:
    rehearsed = await Rehearsed.of(SCENES[number])
    faults: list[str] = []
    cases = [
        (call, path, change)
        for call, path in rehearsed.fields
        for change in changes
        if change != "retyped" or (call, path) not in ANY_VALUE
    ]
    for call, path, change in cases:
        fault = await rehearsed.fault(call, [path], change, rehearsed.expected(call, path))
        if fault is not None:
            faults.append(fault)
    return len(cases), faults


def _run(number: int, changes: Sequence[str]) -> tuple[int, list[str]]:
    logging.disable(logging.CRITICAL)
    return asyncio.run(_scene(number, changes))


@click.command()
@click.option("--action", "wanted", multiple=True, help="Only these actions.")
@click.option("--change", "changes", multiple=True, type=click.Choice(list(CHANGES)), help="Only these.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default=True)
def main(wanted: tuple[str, ...], changes: tuple[str, ...], jobs: int) -> None:
    """Play all scenes and compare."""
    started_s = time.monotonic()
    chosen = [number for number, scene in enumerate(SCENES) if not wanted or scene.action in wanted]
    cases, faulty = 0, 0
    with ProcessPoolExecutor(jobs) as pool:
        for number, (played, faults) in zip(
            chosen, pool.map(_run, chosen, [changes or tuple(CHANGES)] * len(chosen)), strict=True
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
