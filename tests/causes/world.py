"""One simulated daemon with its host, watched by the real exporter: every half minute of virtual time is scraped.

Faults are put into the simulator or into its hardware; what the rules then say is not known here.
"""

import asyncio
import contextlib
import dataclasses
import random
import re
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from daemonpulse.demo.simulated_host import SimulatedGpus, SimulatedHost
from exporter.hardware.errors import DriverUnavailable
from exporter.hardware.gpus import Device, GpuReading
from exporter.hardware.host import HostReading
from llmster_sim.engine.daemon import Settings
from llmster_sim.engine.instances import Instance
from llmster_sim.engine.requests import chat_ask
from llmster_sim.models.generation import prose
from llmster_sim.models.prompts import Message
from llmster_sim.server import SimConfig, Simulator
from llmster_sim.traffic.steady import Traffic
from tests.dashboards.asked import rule_metrics
from tests.system.conftest import RunningExporter, daemon, exporters

STEP_S = 30.0
RULE_METRICS = rule_metrics()
HEALTHY_STEPS = 3
_BEGAN_AGO_S = 1800
"""Virtual time runs ahead of the exporter's clock and stays behind it: what is idle has been so for less than this."""
_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
_SETTLE_TURNS = 200
"""Turns of the loop in which events on their way to the exporter arrive."""

Series = dict[str, dict[int, float]]
"""Values by step, by series."""


@dataclasses.dataclass
class Hardware:
    """What is wrong with the host."""

    lost: set[int] = dataclasses.field(default_factory=set)
    silent: set[str] = dataclasses.field(default_factory=set)
    hot: set[int] = dataclasses.field(default_factory=set)
    ecc: dict[int, int] = dataclasses.field(default_factory=dict)
    taken_bytes: int = 0
    """RAM that something else on the host holds."""


class BrokenGpus(SimulatedGpus):
    """The simulator's GPUs with what is wrong with them."""

    def __init__(self, sim: Simulator, vendor: str, hardware: Hardware) -> None:
        super().__init__(sim.daemon, asyncio.get_running_loop(), vendor)
        self._hardware = hardware
        self._of = vendor

    def read(self) -> GpuReading:
        if self._of in self._hardware.silent:
            raise DriverUnavailable("the driver does not answer")
        reading = super().read()
        return dataclasses.replace(reading, devices=tuple(self._broken(one) for one in reading.devices))

    def _broken(self, device: Device) -> Device:
        if device.index in self._hardware.lost:
            return Device(index=device.index, uuid=device.uuid, vendor=device.vendor, lost=True)
        reasons = dict(device.throttle_reasons or {})
        # The simulated fans hold the heat at bay; what throttles is a fault that was put in.
        reasons["hw_thermal_slowdown"] = device.index in self._hardware.hot
        reasons.pop("hw_slowdown", None)
        errors = {("uncorrected", "dram"): self._hardware.ecc.get(device.index, 0)}
        return dataclasses.replace(device, throttle_reasons=reasons, ecc_errors=errors)


class BrokenHost(SimulatedHost):
    """The simulator's host, of whose RAM something else may hold a part."""

    def __init__(self, sim: Simulator, hardware: Hardware) -> None:
        super().__init__(sim.daemon, asyncio.get_running_loop())
        self._hardware = hardware

    def read(self, daemon_pid: int | None) -> HostReading:
        reading = super().read(daemon_pid)
        assert reading.memory is not None
        left = reading.memory.available_bytes - self._hardware.taken_bytes
        return dataclasses.replace(reading, memory=dataclasses.replace(reading.memory, available_bytes=left))


@dataclasses.dataclass
class World:
    """A daemon, its host, and what has been scraped of them."""

    name: str
    sim: Simulator
    exporter: RunningExporter
    hardware: Hardware
    rng: random.Random
    series: Series = dataclasses.field(default_factory=dict)
    steps: int = 0
    each_step: list[Callable[[], None]] = dataclasses.field(default_factory=list)
    """What goes on happening: done after the first second of every step."""
    _last: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def place(self) -> str:
        """The labels that Prometheus adds."""
        return f'instance="{self.name}:9810",job="daemonpulse"'

    async def healthy(self, steps: int = HEALTHY_STEPS) -> None:
        """Let so many steps go by."""
        for _ in range(steps):
            await self.step()

    async def step(self, *, last_s: float = 0, then: Callable[[], None] | None = None) -> None:
        """Let half a minute go by and scrape; `then` happens `last_s` before that."""
        self.sim.clock.advance(1)
        for happen in self.each_step:
            happen()
        self.sim.clock.advance(STEP_S - 1 - last_s)
        if then is not None:
            then()
            self.sim.clock.advance(last_s)
        for _ in range(_SETTLE_TURNS):
            await asyncio.sleep(0)
        await self.scrape()

    async def scrape(self) -> None:
        """Scrape, and take the samples for this step's."""
        text = (await self.exporter.get(x_prometheus_scrape_timeout_seconds="10")).text
        began_s = self.sim.config.start_ms / 1000
        found: dict[str, float] = {}
        for line in text.splitlines():
            match = _SAMPLE.fullmatch(line)
            if match is None or match[1] not in RULE_METRICS:
                continue
            value = float(match[3]) - (began_s if match[1].endswith("_timestamp_seconds") else 0)
            found[f"{match[1]}{{{match[2] + ',' if match[2] else ''}{self.place}}}"] = value
        self._keep(found)

    def hold(self, steps: int) -> None:
        """Let so many steps go by in which nothing changes."""
        for _ in range(steps):
            self._keep(self._last)

    def add(self, series: str, value: float) -> None:
        """Set a series that another program serves, from now on, for one step."""
        self.series.setdefault(f"{series[:-1]},{self.place}}}", {})[self.steps] = value

    def _keep(self, found: dict[str, float]) -> None:
        self._last = found
        for key, value in found.items():
            self.series.setdefault(key, {})[self.steps] = value
        self.steps += 1

    # What faults are made of

    def victim(self, key: str = "openai/gpt-oss-20b") -> Instance:
        """Give the instance of a model, loaded if it is not."""
        found = self.sim.daemon.find(key, domain="llm")
        if found is None:
            self.sim.daemon.load(key, instant=True)
            found = self.sim.daemon.find(key, domain="llm")
        assert found is not None
        return found

    def chat(self, key: str, *, words: int = 60, scale: float = 1.0) -> None:
        """Let a client send a chat."""
        text = prose(rng=self.rng, words=words)
        Traffic(daemon=self.sim.daemon, seed=0).chat(
            name=key,
            ask=lambda instance: chat_ask(
                model=instance.model,
                messages=[Message(role="user", text=text)],
                route="/v1/chat/completions",
                stream=True,
                scale=scale,
            ),
        )

    def chats(self, *keys: str, words: int = 60, scale: float = 1.0) -> None:
        """Let a client send a chat to each."""
        for key in keys:
            self.chat(key, words=words, scale=scale)

    async def busy(self, key: str = "openai/gpt-oss-20b") -> Instance:
        """Let an instance be seen at work, on something that takes minutes."""
        instance = self.victim(key)
        await self.step(last_s=1.5, then=lambda: self.chats(key, key, scale=300.0))
        assert instance.queue.running
        return instance


@contextlib.asynccontextmanager
async def world(
    name: str,
    seed: int,
    *,
    scenario: str = "steady",
    home: Path | None = None,
    settings: Settings | None = None,
) -> AsyncIterator[World]:
    """Run a world; a scenario is the simulator's. Both GPUs have room for what the scenarios load."""
    config = SimConfig(
        seed=seed,
        scenario=scenario,
        manual_clock=True,
        start_ms=round((time.time() - _BEGAN_AGO_S) * 1000),
        home=home,
        settings=settings or Settings(),
    )
    hardware = Hardware()
    async with Simulator(config) as sim, exporters() as start:
        exporter = await start(
            daemon(name, sim.url, home=home),
            gpus={vendor: BrokenGpus(sim, vendor, hardware) for vendor in ("nvidia", "amd")},
            host=BrokenHost(sim, hardware),
        )
        roomy = sim.daemon.gpus.all[1]
        roomy.spec = dataclasses.replace(roomy.spec, total_bytes=2 * roomy.spec.total_bytes)
        made = World(name, sim, exporter, hardware, random.Random(seed))
        await exporter.until(lambda scraped: scraped.value("llmster_log_stream_up") == 1, within_s=60)
        yield made
