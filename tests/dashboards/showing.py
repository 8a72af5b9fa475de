"""Asks Grafana's own code what it makes of a board's panels and of real answers of Prometheus.

Knows how a panel's queries are asked; what Grafana does with the answers is in node/show.mjs.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.dashboards.asked import NAMES, Json, board, chosen, panels, queries_of, substituted

SHOW = Path(__file__).parent / "node" / "show.mjs"

Ask = Callable[[str], Awaitable[list[Json]]]


async def answered(ask: Ask) -> list[Json]:
    """Ask every PromQL query of every panel; give each panel with its answers by their letters."""
    found = []
    for name in NAMES:
        data = board(name)
        values = chosen(data)
        for panel in panels(data):
            answers = {
                target["refId"]: [
                    {"metric": series["metric"], "values": [series["value"]]}
                    for series in await ask(substituted(target["expr"], values))
                ]
                for target in queries_of(panel)
            }
            if any(answers.values()):
                found.append({"board": name, "panel": panel, "answers": answers})
    return found


async def faults(node: Path, shown: list[Json]) -> tuple[list[str], int]:
    """Give what is wrong, and how many panels were judged."""
    process = await asyncio.create_subprocess_exec(
        node,
        SHOW,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(json.dumps(shown).encode())
    assert process.returncode == 0, err.decode()
    *found, last = out.decode().splitlines()
    return found, int(last.partition(" ")[0])
