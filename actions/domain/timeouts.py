"""Timeouts and intervals in seconds, in one place, so that tests can replace them.

Does not depend on what is timed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Waits and intervals of the service."""

    load_s: float = 1800.0
    """Hundreds of gigabytes from a slow disk."""
    cancel_s: float = 10.0
    """How long the daemon may take to answer the cancel of a load."""
    verify_s: float = 10.0
    """How long an instance may still be listed after the daemon confirmed the unload."""
    poll_s: float = 0.25
    """Interval of polling while waiting."""
    download_poll_s: float = 1.0
    """Interval of polling a download."""
    probe_silence_s: float = 600.0
    """A big model loads for minutes without an event."""
    probe_s: float = 1800.0
    kill_wait_s: float = 3.0
    """The kill switch waits this long for its turn, then runs without it."""
    tick_s: float = 5.0
    """Interval of the reconciler; each tick costs one snapshot, as much as a scrape."""
    retry_first_s: float = 10.0
    retry_most_s: float = 600.0
    """Before a desired instance that could not be loaded is tried again, doubling."""
    store_retry_s: float = 1.0
    """Before an outcome that could not be written is written again."""


async def sleep_unless(event: asyncio.Event, seconds: float) -> None:
    """Sleep, or return at once when the event is set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
