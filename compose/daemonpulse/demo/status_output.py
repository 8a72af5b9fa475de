"""The demo without a screen: one status line a second on a terminal, and the last one anywhere.

Depends on the exporter's address only.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Collection
from typing import Any, Final

import click
import httpx

from daemonpulse.demo.status_line import StatusLine
from daemonpulse.demo.verification import ANSWER_S, samples

EVERY_S: Final = 1.0


async def show_status(
    exporter_url: str, ends: Collection[asyncio.Future[Any]], seconds: float | None
) -> None:
    """Show the line until time is up, or one of `ends` is done: a server, or a signal."""
    deadline = None if seconds is None else time.monotonic() + seconds
    line, status = "", StatusLine()
    async with httpx.AsyncClient(trust_env=False, timeout=ANSWER_S) as http:
        while not any(end.done() for end in ends) and (deadline is None or time.monotonic() < deadline):
            try:
                line = status.line(await samples(http, exporter_url), now_s=time.monotonic())
            except httpx.TransportError as error:
                if any(end.done() for end in ends):
                    break  # the exporter ended between two checks
                line = f"no answer from the exporter ({type(error).__name__})"
            if sys.stdout.isatty():
                columns = shutil.get_terminal_size().columns
                click.echo(f"\r{line[: columns - 1]:<{columns - 1}}", nl=False)
            left_s = EVERY_S if deadline is None else min(EVERY_S, deadline - time.monotonic())
            await asyncio.wait(ends, timeout=max(0.0, left_s), return_when=asyncio.FIRST_COMPLETED)
    click.echo(("\n" if sys.stdout.isatty() else "") + line)
