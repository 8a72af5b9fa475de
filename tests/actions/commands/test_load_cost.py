"""What a load costs the daemon, and that waiting for one instance holds up nothing else."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest

from llmster_sim import errors
from llmster_sim.engine.loading import Load
from llmster_sim.server import SimConfig, Simulator
from llmster_sim.wire.envelopes import Channel
from llmster_sim.wire.model_calls import ModelEndpoints
from tests.actions.commands.test_load_eject import _long_ask
from tests.actions.conftest import SMALL, Forge, StartForge, loaded

BUSY = "qwen/qwen3-8b"
MOST_CALLS = 12


def cost(sim: Simulator, before: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """Count the calls since `before`."""
    return sim.calls - before


async def test_a_load_costs_the_daemon_at_most_twelve_calls_and_one_estimate(
    forge: Forge, sim: Simulator
) -> None:
    await forge.http.get("/v1/daemons")
    before = Counter(sim.calls)
    assert (await forge.load(context_length=2048)).status_code == 200
    spent = cost(sim, before)
    assert spent["llm", "estimateModelUsage"] == 1, spent
    assert spent["llm", "loadModel"] == 1, spent
    assert spent.total() <= MOST_CALLS, spent


async def test_a_load_that_replaces_costs_one_estimate_too(forge: Forge, sim: Simulator) -> None:
    await forge.load(context_length=2048)
    before = Counter(sim.calls)
    assert (await forge.load(context_length=4096, replace=SMALL)).status_code == 200
    spent = cost(sim, before)
    assert spent["llm", "estimateModelUsage"] == 1, spent
    assert spent.total() <= MOST_CALLS, spent


async def test_reading_the_instances_asks_the_daemon_for_no_estimate(forge: Forge, sim: Simulator) -> None:
    before = Counter(sim.calls)
    await forge.http.get(forge.path("instances"))
    assert not [call for call in cost(sim, before) if call[1] == "estimateModelUsage"]


async def test_a_drain_does_not_hold_up_loads_of_other_models(forge: Forge, sim: Simulator) -> None:
    sim.daemon.request(BUSY, ask=_long_ask(sim))
    sim.daemon.stall(BUSY)
    draining = (await forge.post("models/eject", wait=None, instance_id=BUSY, drain_seconds=600)).json()
    async with asyncio.timeout(10):
        while forge.parts.service.operations.live[draining["id"]].phase != "draining":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (await forge.load()).status_code == 200
    assert BUSY in loaded(sim)
    await forge.http.post(f"/v1/operations/{draining['id']}/cancel")


async def test_an_eject_that_would_end_requests_is_refused_with_their_number(
    forge: Forge, sim: Simulator
) -> None:
    sim.daemon.request(BUSY, ask=_long_ask(sim))
    sim.daemon.stall(BUSY)
    refused = await forge.post("models/eject", instance_id=BUSY)
    assert refused.status_code == 409
    problem = refused.json()
    assert (problem["type"], problem["queued"]) == ("urn:daemonpulse:problem:instance-busy", 1)
    assert BUSY in loaded(sim)
    (denied,) = await forge.audit("denied")
    assert denied["detail"]["rule"] == "ejected-is-idle"


async def test_a_forced_eject_ends_requests_and_counts_them(forge: Forge, sim: Simulator) -> None:
    for _ in range(3):
        sim.daemon.request(BUSY, ask=_long_ask(sim))
    sim.daemon.stall(BUSY)
    done = await forge.post("models/eject", instance_id=BUSY, force=True)
    assert done.json()["result"] == {"ejected": [BUSY], "queued_when_ejected": 3}
    ended = "daemonpulse_requests_ended_by_eject_total"
    assert await forge.metric(ended, daemon="box", action="eject") == 3


async def test_the_kill_switch_counts_what_it_ends(forge: Forge, sim: Simulator) -> None:
    for _ in range(2):
        sim.daemon.request(BUSY, ask=_long_ask(sim))
    sim.daemon.stall(BUSY)
    done = await forge.post("models/eject-all")
    assert done.json()["result"]["requests_ended"] == {BUSY: 2}
    ended = "daemonpulse_requests_ended_by_eject_total"
    assert await forge.metric(ended, daemon="box", action="eject_all") == 2


@pytest.fixture
async def slow() -> AsyncIterator[Simulator]:
    """A daemon whose loads go on until a test lets time pass."""
    async with Simulator(SimConfig(scenario="idle", manual_clock=True)) as simulator:
        yield simulator


async def test_a_cancel_that_the_daemon_answers_with_an_error_is_a_cancel(
    start_forge: StartForge, slow: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: ModelEndpoints, channel: Channel, load: Load | None) -> None:
        def cancel(_message: dict[str, object]) -> None:
            assert load is not None
            self._daemon.loader.abort(load)
            channel.fail(errors.out_of_memory())

        channel.on_message = cancel

    monkeypatch.setattr(ModelEndpoints, "_make_cancellable", failing)
    forge = await start_forge(slow)
    begun = (await forge.load(wait=None)).json()
    await until(lambda: slow.daemon.loader.loads)
    await forge.http.post(f"/v1/operations/{begun['id']}/cancel")
    operation = await forge.operation(begun["id"])
    assert operation["state"] == "cancelled", operation
    assert SMALL not in loaded(slow)


async def until(true: Callable[[], object]) -> None:
    """Wait for something that is only seen by looking."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - it happens in the simulator
            await asyncio.sleep(0.01)
