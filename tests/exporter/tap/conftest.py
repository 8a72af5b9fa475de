"""A simulated daemon with a tap before it, which looks to clients like the daemon."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from exporter.tap.exchange import Clocks
from llmster_sim.server import SimConfig, Simulator
from tests.exporter.tap.tapping import Tapped, tap_before

SPEED = 50.0


@dataclass
class TappedSimulator:
    """The simulator, but for the port: that is the tap's."""

    simulator: Simulator
    tap: Tapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self.simulator, name)

    @property
    def port(self) -> int:
        return self.tap.port

    @property
    def url(self) -> str:
        return self.tap.url


@pytest.fixture
async def sim() -> AsyncIterator[TappedSimulator]:
    async with Simulator(SimConfig(seed=7, scenario="idle", speed=SPEED)) as simulator:
        clock = simulator.clock
        clocks = Clocks(lambda: clock.now_s, lambda: clock.now_ms * 1_000_000)
        async with tap_before(simulator.port, clocks=clocks) as tap:
            yield TappedSimulator(simulator, tap)
