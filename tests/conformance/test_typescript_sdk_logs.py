"""The official TypeScript SDK reads the simulator's log stream, with its own schema."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from llmster_sim.engine.log_events import Event
from llmster_sim.server import SimConfig, Simulator
from llmster_sim.traffic.scenarios import SCENARIOS
from tests.conformance.node_judge import judge

pytestmark = [pytest.mark.external("node"), pytest.mark.external("@lmstudio/sdk")]

CHAT = "qwen/qwen3-8b"  # reasons, trained for tool use


async def test_log_stream_carries_every_kind_of_event_until_it_is_stopped(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, released = asyncio.Event(), asyncio.Event()
    watch = sim.daemon.watch

    def note(watcher: Callable[[Event], None]) -> Callable[[], None]:
        stop = watch(watcher)
        watched.set()

        def stop_and_note() -> None:
            stop()
            released.set()

        return stop_and_note

    async def subscribed(_: Any) -> None:
        await watched.wait()

    async def stopped(_: Any) -> None:
        await released.wait()

    monkeypatch.setattr(sim.daemon, "watch", note)
    on = {"subscribed": subscribed, "stopped": stopped}
    seen = (await judge("logs", sim.url, {"key": CHAT}, on=on)).accept()
    by_type: dict[str, list[dict[str, Any]]] = {}
    for event in seen["events"]:
        by_type.setdefault(event["data"]["type"], []).append(event)
    assert set(by_type) == {"llm.prediction.input", "llm.prediction.output", "server.log", "runtime.log"}
    (prompt,) = by_type["llm.prediction.input"]
    (output,) = by_type["llm.prediction.output"]
    assert "Say something." in prompt["data"]["input"]
    assert output["data"]["stats"] == seen["stats"]
    assert prompt["data"]["modelIdentifier"] == output["data"]["modelIdentifier"]
    stamps = [event["timestamp"] for event in seen["events"]]
    assert stamps == sorted(stamps)


@pytest.mark.parametrize("scenario", sorted(SCENARIOS.keys() - {"idle", "malformed", "restart"}))
async def test_every_log_event_of_a_scenario_passes_the_sdks_schema(scenario: str) -> None:
    async with Simulator(SimConfig(seed=7, scenario=scenario, speed=500.0, port=0)) as sim:
        types = (await judge("watch", sim.url, {"count": 400})).accept()
    assert {"llm.prediction.input", "llm.prediction.output", "server.log", "runtime.log"} <= types.keys()


async def test_malformed_scenario_sends_what_the_sdk_refuses_and_the_stream_goes_on() -> None:
    async with Simulator(SimConfig(seed=7, scenario="malformed", speed=500.0, port=0)) as sim:
        verdict = await judge("watch", sim.url, {"count": 400})
    assert verdict.crash is None
    assert sum(verdict.result.values()) >= 400
    assert any("Received invalid" in complaint for complaint in verdict.complaints)
