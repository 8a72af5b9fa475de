"""The reconciler: brings back what is desired, reaps what idles, notices what went by itself, and evicts nobody."""

import asyncio
import contextlib
import time
from typing import Any

import pytest

from actions.commands.reconciler import Reconciler
from actions.domain.errors import Problem
from llmster_sim.server import Simulator
from tests.actions.commands.test_load_eject import _long_ask
from tests.actions.conftest import BIG, QUICK, SMALL, Forge, StartForge, loaded

PINNED, JIT = "qwen/qwen3-8b", "openai/gpt-oss-20b"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def settled(forge: Forge) -> None:
    """Wait until no operation is under way."""
    async with asyncio.timeout(10):
        while forge.parts.service.operations.live:  # noqa: ASYNC110 - seen only by looking
            await asyncio.sleep(0.01)


async def ticks(forge: Forge, reconciler: Reconciler | None = None, *, count: int = 2) -> None:
    for _ in range(count):
        await (reconciler or forge.parts.reconcilers[0]).tick()
        await settled(forge)


async def desire(forge: Forge, **query: Any) -> dict[str, Any]:
    response = await forge.http.post(forge.path("desired"), params=query)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_a_desired_instance_is_loaded_as_described(forge: Forge, sim: Simulator) -> None:
    await desire(forge, model=SMALL, instance_id="mine", context_length=2048)
    await ticks(forge)
    assert sim.daemon.instance("mine").config.context_length == 2048
    (intent,) = await forge.audit("intent")
    assert intent["actor"] == "reconciler"
    await ticks(forge)
    assert sim.calls["llm", "loadModel"] == 1


async def test_a_desired_instance_is_back_after_the_daemon_restarted(forge: Forge, sim: Simulator) -> None:
    await desire(forge, model=SMALL)
    await ticks(forge)
    await sim.restart()
    assert loaded(sim) == set()
    await forge.parts.service.daemons["box"].client.connected()
    async with asyncio.timeout(10):
        while SMALL not in loaded(sim):
            with contextlib.suppress(Problem):  # not connected again yet
                await ticks(forge, count=1)
            await asyncio.sleep(0.02)
    events = [entry["action"] for entry in await forge.audit("event")]
    assert "daemon-restarted" in events


async def test_what_a_person_ejected_stays_away_until_it_is_desired_again(
    forge: Forge, sim: Simulator
) -> None:
    await desire(forge, model=SMALL)
    await ticks(forge)
    await forge.post("models/eject", instance_id=SMALL)
    await ticks(forge, count=3)
    assert SMALL not in loaded(sim)
    state = (await forge.http.get(forge.path("desired"))).json()
    assert [one["suspended"] for one in state["instances"]] == [True]
    await desire(forge, model=SMALL)
    await ticks(forge)
    assert SMALL in loaded(sim)


async def desired_loaded(forge: Forge) -> list[str]:
    text = (await forge.http.get("/metrics")).text
    return [line for line in text.splitlines() if line.startswith("daemonpulse_desired_instance_loaded{")]


async def test_metrics_show_which_desired_instances_are_loaded_while_that_is_known(
    forge: Forge, sim: Simulator
) -> None:
    await desire(forge, model=SMALL)
    await desire(forge, model=BIG)
    await ticks(forge)
    small, big = (
        f'daemonpulse_desired_instance_loaded{{daemon="box",instance_id="{name}"}}' for name in (SMALL, BIG)
    )
    assert sorted(await desired_loaded(forge)) == sorted([f"{small} 1.0", f"{big} 0.0"])
    await forge.post("models/eject", instance_id=SMALL)  # suspends it
    await ticks(forge)
    assert await desired_loaded(forge) == [f"{big} 0.0"]
    await sim.stop()
    with pytest.raises(Problem):
        await forge.parts.reconcilers[0].tick()
    assert await desired_loaded(forge) == []


async def test_the_kill_switch_is_not_undone(forge: Forge, sim: Simulator) -> None:
    await desire(forge, model=SMALL)
    await ticks(forge)
    await forge.post("models/eject-all")
    await ticks(forge, count=3)
    assert loaded(sim) == set()


async def test_a_kill_switch_thrown_while_the_reconciler_makes_up_its_mind_is_not_undone(
    forge: Forge, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desire(forge, model=SMALL)
    submit = forge.parts.service.submit

    async def overtaken(*given: Any, **wanted: Any) -> Any:
        monkeypatch.undo()
        assert (await forge.post("models/eject-all")).status_code == 200
        return await submit(*given, **wanted)

    monkeypatch.setattr(forge.parts.service, "submit", overtaken)
    await ticks(forge, count=3)
    assert loaded(sim) == set()
    assert sim.calls["llm", "loadModel"] == 0


async def test_a_desired_instance_that_does_not_fit_evicts_nobody_and_is_tried_again_later(
    forge: Forge, sim: Simulator
) -> None:
    before = loaded(sim)
    await desire(forge, model=BIG)
    await ticks(forge, count=3)
    assert loaded(sim) == before
    assert {entry["actor"] for entry in await forge.audit("denied")} == {"reconciler"}
    for name in before:
        sim.daemon.unload(name)
    await ticks(forge)
    assert BIG in loaded(sim)


async def test_failures_are_tried_again_ever_more_slowly(forge: Forge) -> None:
    clock = Clock()
    service = forge.parts.service
    reconciler = Reconciler(service.daemons["box"], service, QUICK.__class__(retry_first_s=10), clock=clock)
    await desire(forge, model=BIG)
    tries = []
    for _ in range(200):
        await ticks(forge, reconciler, count=1)
        tries.append(len(await forge.audit("denied")))
        clock.now += 1
    assert [tries.index(number) for number in (1, 2, 3, 4, 5)] == [0, 10, 30, 70, 150]


async def test_put_sets_the_whole_and_post_changes_one(forge: Forge) -> None:
    body = {"instances": [{"model": SMALL}, {"model": PINNED, "instance_id": "p"}], "reap_idle_seconds": 60}
    put = (await forge.http.put(forge.path("desired"), json=body)).json()
    assert [one["instance_id"] for one in put["instances"]] == ["p", SMALL]
    assert put["reap_idle_seconds"] == 60
    off = await desire(forge, instance_id="p", pinned=False)
    assert [one["instance_id"] for one in off["instances"]] == [SMALL]
    assert (await desire(forge, reap_idle_seconds=0))["reap_idle_seconds"] is None
    empty = (await forge.http.put(forge.path("desired"), json={})).json()
    assert empty["instances"] == []
    assert (await forge.http.post(forge.path("desired"))).status_code == 422
    assert len([entry for entry in await forge.audit("event") if entry["action"] == "desired"]) == 4


async def test_desired_instances_survive_a_restart(start_forge: StartForge, sim: Simulator) -> None:
    first = await start_forge(sim)
    await desire(first, model=SMALL)
    first.task.cancel()
    await asyncio.wait({first.task})
    second = await start_forge(sim)
    await ticks(second)
    assert SMALL in loaded(sim)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def reconciler_of(forge: Forge, clock: Clock) -> Reconciler:
    service = forge.parts.service
    return Reconciler(service.daemons["box"], service, QUICK, clock=clock)


async def test_the_reaper_ejects_what_idled_long_enough_and_nothing_desired(
    forge: Forge, sim: Simulator, clock: Clock
) -> None:
    reconciler = reconciler_of(forge, clock)
    await desire(forge, model=PINNED, reap_idle_seconds=600)
    await ticks(forge, reconciler)
    clock.now += 599
    await ticks(forge, reconciler)
    assert JIT in loaded(sim)
    clock.now += 2
    await ticks(forge, reconciler)
    assert loaded(sim) == {PINNED}
    assert {entry["actor"] for entry in await forge.audit("intent")} == {"reaper"}


async def test_the_reaper_leaves_what_works_however_long_it_has_been_there(
    forge: Forge, sim: Simulator, clock: Clock
) -> None:
    reconciler = reconciler_of(forge, clock)
    await desire(forge, reap_idle_seconds=600)
    sim.daemon.request(JIT, ask=_long_ask(sim))
    sim.daemon.stall(JIT)
    await ticks(forge, reconciler)
    clock.now += 3600
    await ticks(forge, reconciler)
    assert JIT in loaded(sim)
    assert PINNED not in loaded(sim)


async def test_a_use_between_two_looks_starts_the_idleness_over(
    forge: Forge, sim: Simulator, clock: Clock
) -> None:
    reconciler = reconciler_of(forge, clock)
    await desire(forge, reap_idle_seconds=600)
    await ticks(forge, reconciler)
    clock.now += 500
    sim.daemon.used(sim.daemon.instance(JIT))
    await ticks(forge, reconciler)
    clock.now += 500
    await ticks(forge, reconciler)
    assert loaded(sim) == {JIT}


async def test_a_request_that_comes_just_before_the_reaper_saves_the_instance(
    forge: Forge, sim: Simulator, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconciler = reconciler_of(forge, clock)
    await desire(forge, reap_idle_seconds=600)
    await ticks(forge, reconciler)
    clock.now += 601
    service = forge.parts.service
    submit = service.submit

    async def late(*given: Any, **wanted: Any) -> Any:
        for name in loaded(sim):
            if sim.daemon.instance(name).model.type == "llm" and not sim.daemon.instance(name).queue.queued:
                sim.daemon.request(name, ask=_long_ask(sim))
                sim.daemon.stall(name)
        return await submit(*given, **wanted)

    monkeypatch.setattr(service, "submit", late)
    await ticks(forge, reconciler, count=1)
    assert {PINNED, JIT} <= loaded(sim)
    denied = [entry["detail"]["rule"] for entry in await forge.audit("denied")]
    assert denied == ["ejected-is-idle"] * 2


async def test_a_wall_clock_that_jumps_a_year_ejects_nobody(
    forge: Forge, sim: Simulator, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconciler = reconciler_of(forge, clock)
    await desire(forge, reap_idle_seconds=600)
    await ticks(forge, reconciler)
    before = loaded(sim)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600 * 24 * 365)
    await ticks(forge, reconciler)
    assert loaded(sim) == before


async def test_what_the_daemon_loads_and_unloads_by_itself_is_noticed(forge: Forge, sim: Simulator) -> None:
    await ticks(forge, count=1)
    sim.daemon.load(SMALL, jit=True, ttl_ms=3_600_000, instant=True)
    await ticks(forge, count=1)
    sim.daemon.loader.expire(sim.daemon.instance(JIT))
    sim.daemon.unload(SMALL)
    await ticks(forge, count=1)
    events = {(entry["action"], entry["subject"]) for entry in await forge.audit("event")}
    assert events == {
        ("loaded-by-itself", SMALL),
        ("unloaded-by-itself", JIT),
        ("unloaded-by-itself", SMALL),
    }


async def test_what_we_do_ourselves_is_not_noticed_as_the_daemons_doing(forge: Forge) -> None:
    await ticks(forge, count=1)
    await forge.load()
    await ticks(forge, count=1)
    await forge.post("models/eject", instance_id=SMALL)
    await forge.load(context_length=1024)
    await forge.load(context_length=2048, replace=SMALL)
    await ticks(forge, count=2)
    await forge.post("models/eject-all")
    await ticks(forge, count=2)
    assert await forge.audit("event") == []


async def test_what_goes_by_itself_while_we_act_is_noticed_afterwards(
    forge: Forge, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ticks(forge, count=1)
    with monkeypatch.context() as patch:
        patch.setattr(Reconciler, "_is_acting", lambda _self: True)
        sim.daemon.unload(JIT)
        await ticks(forge, count=1)
    await ticks(forge, count=1)
    assert [(entry["action"], entry["subject"]) for entry in await forge.audit("event")] == [
        ("unloaded-by-itself", JIT)
    ]


async def test_what_we_ejected_before_the_daemon_restarted_is_not_lost_to_it(
    forge: Forge, sim: Simulator
) -> None:
    await ticks(forge, count=1)
    others = loaded(sim) - {JIT}
    await forge.post("models/eject", instance_id=JIT)
    await sim.restart()
    await forge.parts.service.daemons["box"].client.connected()
    async with asyncio.timeout(10):
        while not await forge.audit("event"):
            with contextlib.suppress(Problem):  # not connected again yet
                await ticks(forge, count=1)
            await asyncio.sleep(0.02)
    (event,) = await forge.audit("event")
    assert (event["action"], event["detail"]["lost"]) == ("daemon-restarted", sorted(others))


async def test_a_load_that_replaced_another_hides_no_bystander(forge: Forge, sim: Simulator) -> None:
    await forge.load()
    await forge.load(context_length=2048, replace=SMALL)
    await ticks(forge, count=1)
    sim.daemon.unload(JIT)
    await ticks(forge, count=1)
    assert [(entry["action"], entry["subject"]) for entry in await forge.audit("event")] == [
        ("unloaded-by-itself", JIT)
    ]
