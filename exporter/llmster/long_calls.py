"""Channels of work that takes minutes, a load or a download: followed to its end, and given up on demand.

Does not depend on what is loaded. Source: the channels' client message `cancel` in the official schema.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final, TypeVar

import msgspec

from exporter.llmster import lenient
from exporter.llmster.errors import DaemonStalled, LlmsterError, ProtocolViolation
from exporter.llmster.lenient import UNDECODABLE
from exporter.llmster.wire.channel import Channel
from exporter.llmster.wire.connection import Connection

CANCEL_TIMEOUT_S: Final = 10.0
"""Assumed: a load is given up between two layers, at once by a person's measure."""

M = TypeVar("M", bound=msgspec.Struct)
T = TypeVar("T")


async def messages(channel: Channel, shape: type[M], what: str, odd: Counter[str]) -> AsyncIterator[M]:
    """Read a channel to its end; a message that cannot be read costs only itself, and is counted in `odd` as `what`.

    So what the daemon works on can still be cancelled, and its end is seen.
    """
    async for raw in channel:
        try:
            message, _ = lenient.decode(raw, shape)
        except UNDECODABLE:
            odd[what] += 1
        else:
            yield message


async def until_ended(
    connection: Connection,
    channel: Channel,
    following: Coroutine[Any, Any, T | None],
    what: str,
    *,
    cancel: asyncio.Event,
    cancel_timeout_s: float,
) -> T | None:
    """Wait for what `following` makes of the channel; None when `cancel` was set and the daemon gave the work up.

    Raises what `following` raises; DaemonStalled, naming `what`, when a cancel is not answered in time; and
    ProtocolViolation when the work ends without a result.
    """
    reading = asyncio.create_task(following)
    cancelling = asyncio.create_task(cancel.wait())
    try:
        await asyncio.wait({reading, cancelling}, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            await give_up(connection, channel)
            await asyncio.wait({reading}, timeout=cancel_timeout_s)
            if not reading.done():
                raise DaemonStalled(f"{what} did not answer a cancel within {cancel_timeout_s:g} s")
        result = await reading
    finally:
        cancelling.cancel()
        reading.cancel()
        channel.abandon()
    if result is None and not cancel.is_set():
        raise ProtocolViolation(f"{what} ended without saying how")
    return result


async def give_up(connection: Connection, channel: Channel) -> None:
    """Ask the daemon to give the work up."""
    channel.send({"type": "cancel"})
    with contextlib.suppress(LlmsterError):
        await connection.flush()
