"""Plays an hour against the real exporter over real sockets: scrapes, loads, unloads, restarts and cut connections.

Knows no pipeline: pipeline.py sends the great number. Time stands still while a connection is opened anew, because
what a daemon logs meanwhile nobody can count; so the sums must be the simulator's own, to the token.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import SimpleNamespace
from unittest.mock import patch

from exporter.catalogue import daemon as state
from exporter.catalogue import log_stream as m
from exporter.llmster import client, session
from exporter.pipeline import log_stream
from llmster_sim.engine.daemon import Settings
from llmster_sim.server import SimConfig, Simulator
from tests.soak.footprint import Curve, Limits
from tests.system.conftest import RunningExporter, Scraped, daemon, exporters

GUEST = "qwen/qwen3-0.6b"
SCRAPE_EVERY_S, GUEST_EVERY_S, CUT_EVERY_S = 15, 60, 60
GUEST_TTL_MS = 30_000
SETTLED_WITHIN_S = 120.0
LIMITS = Limits(rss_mb=6.0, blocks=6_000, objects=1_000)
"""Wider than elsewhere: timers that the simulator has cancelled wait in its queue until they would have been due."""


@dataclass(slots=True)
class _Leaks:
    """What the check of the check leaves behind on purpose, once per scrape."""

    kind: str | None
    kept: list[object] = field(default_factory=list)

    def drip(self) -> None:
        match self.kind:
            case "events":
                self.kept += [str(len(self.kept) + each) for each in range(100)]
            case "sockets":
                self.kept.append(socket.socket())
            case "tasks":
                self.kept.append(asyncio.create_task(asyncio.Event().wait(), name="forgotten"))
            case _:
                pass

    def clean_up(self) -> None:
        for one in self.kept:
            if isinstance(one, socket.socket):
                one.close()
            elif isinstance(one, asyncio.Task):
                one.cancel()


async def soak(*, seconds: int, leak: str | None = None) -> tuple[Curve, list[str]]:
    """Play so many virtual seconds; return the curve and what is wrong, memory aside. `leak` seeds one."""
    asyncio.get_running_loop().set_default_executor(
        ThreadPoolExecutor(1)
    )  # else it starts more when it likes
    config = SimConfig(scenario="demo", manual_clock=True, settings=Settings(jit_ttl_s=300))
    async with Simulator(config) as sim, exporters() as start:
        with quick_reconnects(), _on_the_daemons_clock(sim):
            hour = _WireHour(sim, await start(daemon("box", sim.url)), _Leaks(leak))
            await hour.play(seconds)
            return hour.curve, hour.differences(await hour.settled())


@contextlib.contextmanager
def quick_reconnects() -> Iterator[None]:
    """Reconnect as after a long session, and at once: between two cuts only moments of real time pass."""
    with (
        patch.object(client, "STEADY_AFTER_S", 0.0),
        patch.object(client, "BACKOFF_FIRST_S", 0.02),
        patch.object(log_stream, "REOPEN_AFTER_S", 0.02),
    ):
        yield


def _on_the_daemons_clock(sim: Simulator) -> contextlib.AbstractContextManager[object]:
    """Tell the exporter the daemon's time: what is left of a TTL is judged by both clocks."""
    clock = SimpleNamespace(time=lambda: sim.clock.now_ms / 1000, monotonic=lambda: sim.clock.now_s)
    return patch.object(session, "time", clock)


class _WireHour:
    def __init__(self, sim: Simulator, exporter: RunningExporter, leaks: _Leaks) -> None:
        self.curve = Curve("wire", LIMITS)
        self._sim = sim
        self._exporter = exporter
        self._leaks = leaks
        self._loads_before = sim.daemon.totals.loads
        self._guests = 0
        self._cuts: Counter[str] = Counter()
        self._died_with_daemon = 0

    async def play(self, seconds: int) -> None:
        """Let the hour pass in steps of a second, and take footprints at the quarters."""
        await self._sample("start")
        quarters = {seconds * quarter // 4 for quarter in range(1, 5)}
        for second in range(1, seconds + 1):
            self._sim.clock.advance(1)
            await asyncio.sleep(0)
            if second % SCRAPE_EVERY_S == 0:
                await self._exporter.scrape()
                await self._exporter.get("/")
                self._leaks.drip()
            if second % GUEST_EVERY_S == GUEST_EVERY_S // 2:
                await self._change_guest()
            if second % CUT_EVERY_S == 0:
                await self._cut()
            if second in quarters:
                await self._sample(f"{second:,} s, {self._sim.daemon.totals.logged_predictions:,} req.")
        self._leaks.clean_up()

    async def settled(self) -> Scraped:
        """Wait until the exporter is connected and has counted all that was logged."""
        requests = self._sim.daemon.totals.logged_predictions
        return await self._exporter.until(
            lambda scraped: (
                scraped.value("llmster_up") == 1
                and scraped.value(m.STREAM_UP.name) == 1
                and scraped.value(state.RESTARTS.name) == self._cuts["restart"]
                and total(scraped, m.REQUESTS.name) >= requests
            ),
            within_s=SETTLED_WITHIN_S,
        )

    async def _sample(self, label: str) -> None:
        """Take a footprint when nothing is under way, for what the simulator works on is of no constant size."""
        self._sim._scenario.stop()
        while any(one.busy for one in self._sim.daemon.instances) or self._sim.daemon.loader.loads:
            self._sim.clock.advance(1)
        await self.settled()
        self.curve.sample(label)
        self._sim._scenario.start()

    async def _change_guest(self) -> None:
        """Load a model under a name never used before; every other one leaves by its TTL, the rest is ejected."""
        daemon = self._sim.daemon
        last = f"guest-{self._guests}"
        if any(one.identifier == last for one in daemon.loaded):
            await self._exporter.scrape()  # or it may never have been seen
            daemon.unload(last)
        self._guests += 1
        daemon.load(
            GUEST, identifier=f"guest-{self._guests}", ttl_ms=GUEST_TTL_MS if self._guests % 2 else None
        )

    async def _cut(self) -> None:
        """End all connections: by a restart of the daemon, or without any reason."""
        await self.settled()
        if self._cuts.total() % 2:
            self._sim.faults.drop_connections()
            self._cuts["drop"] += 1
            await self._exporter.until(
                lambda scraped: scraped.value(m.DISCONNECTS.name) == self._cuts.total()
            )
        else:
            self._died_with_daemon += len(self._sim.daemon.loaded)
            await self._sim.restart()
            self._cuts["restart"] += 1
        await self.settled()

    def differences(self, scraped: Scraped) -> list[str]:
        """Compare the last scrape with the simulator's own sums."""
        totals = self._sim.daemon.totals
        expected = {
            m.REQUESTS.name: totals.logged_predictions,
            m.PROMPT_TOKENS.name: totals.logged_prompt_tokens,
            m.GENERATION_TOKENS.name: totals.logged_generated_tokens,
            m.DISCONNECTS.name: self._cuts.total(),
            state.RESTARTS.name: self._cuts["restart"],
            state.LOADS.name: totals.loads - self._loads_before,
        }
        causes = {
            "restart": self._died_with_daemon,
            "ttl": totals.ttl_unloads,
            "other": totals.unloads - totals.ttl_unloads,
        }
        found = [(name, total(scraped, name), value) for name, value in expected.items()]
        found += [
            (f"{state.UNLOADS.name} {cause}", total(scraped, state.UNLOADS.name, cause=cause), value)
            for cause, value in causes.items()
        ]
        return [f"{name} is {got:,g}, not {value:,}" for name, got, value in found if got != value]


def total(scraped: Scraped, name: str, **labels: str) -> float:
    """Add up all samples of a name."""
    return sum(
        value for sample, own, value in scraped.samples if sample == name and labels.items() <= own.items()
    )
