"""Checks what the demo promises: every state metric is served, and stored where a Prometheus runs.

Depends on addresses only: it sees what a scraper and a user of Prometheus see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import click
import httpx

from daemonpulse.top.model import Sample
from daemonpulse.top.source import samples_of
from exporter.catalogue import daemon as state_metrics

ANSWER_S: Final = 30.0
"""An answer may take so long: everything runs on one host, which may be busy."""
FIRST_SCRAPE_S: Final = 15.0
_RETRY_S: Final = 1.0
_PROMISED: Final = tuple(
    row for row in state_metrics.ROWS if row not in {state_metrics.GPU_OFFLOAD, state_metrics.SITE_INFO}
)
"""State metrics the demo must serve. The loads of its daemon leave the GPU offload to autoFit, so it has no ratio; its
daemon belongs to no site."""


async def samples(http: httpx.AsyncClient, exporter_url: str) -> list[Sample]:
    """Scrape the exporter. Raises httpx.TransportError."""
    return samples_of((await http.get(f"{exporter_url}/metrics")).text)


async def verify(urls: Mapping[str, str]) -> int:
    """Check by the URLs of the parts, and print what was found; return the exit code."""
    problems: list[str] = []
    async with httpx.AsyncClient(trust_env=False, timeout=ANSWER_S) as http:
        try:
            seen = {name for name, _, _ in await samples(http, urls["exporter"])}
            missing = [row.name for row in _PROMISED if row.name not in seen]
            if missing:
                problems.append(f"state metrics that were not served: {', '.join(missing)}")
            if "prometheus" in urls:
                problems += await _stored_problems(http, urls["prometheus"])
        except httpx.TransportError as error:
            problems.append(f"{error.request.url} does not answer: {type(error).__name__}")
    for problem in problems:
        click.echo(f"daemonpulse: {problem}", err=True)
    if not problems:
        stored = ", and stored by Prometheus" if "prometheus" in urls else "; not stored: no Prometheus here"
        click.echo(f"all {len(_PROMISED)} state metrics served{stored}")
    return 1 if problems else 0


async def _stored_problems(http: httpx.AsyncClient, url: str) -> list[str]:
    """Give a Prometheus that started a moment ago the time for its first scrape before finding fault."""
    problems: list[str] = []
    for _ in range(round(FIRST_SCRAPE_S / _RETRY_S)):
        problems = await _prometheus_problems(http, url)
        if not problems:
            break
        await asyncio.sleep(_RETRY_S)
    return problems


async def _prometheus_problems(http: httpx.AsyncClient, url: str) -> list[str]:
    targets = (await http.get(f"{url}/api/v1/targets")).json()["data"]["activeTargets"]
    problems = [
        f"Prometheus' target {target['scrapeUrl']} is {target['health']}: {target['lastError'] or 'never scraped'}"
        for target in targets
        if target["health"] != "up"
    ]
    if not targets:
        problems.append("Prometheus has no target")
    for row in _PROMISED:
        answer = (await http.get(f"{url}/api/v1/query", params={"query": row.name})).json()
        if not answer["data"]["result"]:
            problems.append(f"Prometheus has not stored {row.name}")
    return problems
