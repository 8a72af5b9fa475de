"""The daemon that the official clients judge: our simulator, in this process, on a port of its own."""

from collections.abc import AsyncIterator

import pytest

from llmster_sim.server import SimConfig, Simulator

# Virtual seconds per real second: loads and predictions of many seconds pass in a blink.
SPEED = 50.0


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(SimConfig(seed=7, scenario="idle", speed=SPEED, token=None, port=0)) as simulator:
        yield simulator
