"""`python -m tests.daemonpulse.recording > docs/examples/log-stream.jsonl`: record a simulated daemon's log stream.

The lines are those of `lms log stream --json`. Time is the simulator's own, so that the same seed gives the same day.
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import Final

import msgspec

from exporter.llmster.client import DaemonClient
from exporter.llmster.wire.channel import Channel
from llmster_sim.server import SimConfig, Simulator

SECONDS: Final = 30
_STEP_S: Final = 0.05
_REAL_STEP_S: Final = 0.002


async def record(seconds: float) -> Sequence[bytes]:
    """Give the lines of so many seconds."""
    lines: list[bytes] = []
    async with Simulator(SimConfig(scenario="demo", seed=7, manual_clock=True)) as simulator:
        client = DaemonClient(name="recorded", url=simulator.url, token=lambda: None)
        running = asyncio.create_task(client.run())
        await client.settled(within_s=10)
        async with client.log_channel() as channel:
            reading = asyncio.create_task(_read(channel, lines))
            for _ in range(round(seconds / _STEP_S)):
                simulator.clock.advance(_STEP_S)
                await asyncio.sleep(_REAL_STEP_S)  # both ends of the socket are in this loop
            await asyncio.sleep(1)  # the last lines are on their way
            reading.cancel()
        running.cancel()
        await asyncio.gather(reading, running, return_exceptions=True)
    return lines


async def _read(channel: Channel, lines: list[bytes]) -> None:
    async for message in channel:
        lines.append(msgspec.json.encode(msgspec.json.decode(message)["log"]))  # noqa: PERF401 - it is cancelled, and keeps what came


if __name__ == "__main__":
    for line in asyncio.run(record(SECONDS)):
        sys.stdout.buffer.write(line + b"\n")
