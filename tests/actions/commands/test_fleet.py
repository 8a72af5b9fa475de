"""Several daemons behind one service: commands for a site, partial failure, and groups kept as desired."""

import dataclasses
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actions.commands.fleet import Fleet
from llmster_sim.server import SimConfig, Simulator
from tests.actions.commands.test_load_eject import _long_ask
from tests.actions.conftest import SMALL, Forge, StartForge, daemon, loaded, start_forge

__all__ = ["start_forge"]

NAMES = ("a", "b", "c")
SITES = ("east", "east", "west")
BUSY = "qwen/qwen3-8b"


@pytest.fixture
async def sims() -> AsyncIterator[dict[str, Simulator]]:
    async with (
        Simulator(SimConfig(scenario="idle", speed=100.0)) as one,
        Simulator(SimConfig(scenario="idle", speed=100.0)) as two,
        Simulator(SimConfig(scenario="idle", speed=100.0)) as three,
    ):
        yield dict(zip(NAMES, (one, two, three), strict=True))


@pytest.fixture
async def forge(start_forge: StartForge, sims: dict[str, Simulator]) -> Forge:
    daemons = tuple(
        dataclasses.replace(daemon(sim.url, name=name), site=site)
        for (name, sim), site in zip(sims.items(), SITES, strict=True)
    )
    started = await start_forge(sims["a"], daemons=daemons)
    started.parts.fleet.max_age_s = 0
    listed = (await started.http.get("/v1/daemons")).json()["daemons"]
    assert [one["state"] for one in listed] == ["running"] * 3
    return started


async def settle(forge: Forge) -> None:
    """Let the reconciler of groups look, and wait for the end of what it began."""
    fleet: Fleet = forge.parts.fleet
    await fleet.tick()
    for operation in tuple(forge.parts.service.operations.live.values()):
        await operation.done.wait()


def holders(sims: dict[str, Simulator], name: str) -> list[str]:
    return [box for box, sim in sims.items() if name in loaded(sim)]


async def test_a_command_for_a_site_is_one_operation_per_daemon_and_one_group_in_the_audit(
    forge: Forge, sims: dict[str, Simulator]
) -> None:
    answer = (await forge.http.post("/v1/fleet/eject-all?site=east&wait=20&reason=heat")).json()
    assert (answer["done"], answer["failed"], answer["running"]) == (2, 0, 0)
    assert [one["daemon"] for one in answer["results"]] == ["a", "b"]
    assert (loaded(sims["a"]), loaded(sims["b"])) == (set(), set())
    assert loaded(sims["c"])
    intents = [row for row in await forge.audit("intent") if row["action"] == "eject_all"]
    assert {row["detail"]["parameters"]["group"] for row in intents} == {answer["group"]}
    assert {row["detail"]["parameters"]["daemon"] for row in intents} == {"a", "b"}
    outcomes = [row for row in await forge.audit("outcome") if row["action"] == "eject_all"]
    assert len(outcomes) == 2


async def test_a_site_is_probed_at_once_and_a_daemon_that_is_down_fails_alone(
    forge: Forge, sims: dict[str, Simulator]
) -> None:
    await sims["b"].stop()
    query: dict[str, str | int] = {"model": BUSY, "site": "east", "wait": 20}
    answer = (await forge.http.post("/v1/fleet/probe", params=query)).json()
    assert (answer["done"], answer["failed"]) == (1, 1)
    well, down = answer["results"]
    assert well["operation"]["result"]["time_to_first_token_seconds"] > 0
    assert (down["daemon"], down["problem"]["status"]) == ("b", 503)
    assert await forge.metric("daemonpulse_probe_time_to_first_token_seconds", daemon="a", model=BUSY)


async def test_an_instance_is_pinned_at_a_site_and_a_daemon_without_room_for_it_fails_alone(
    forge: Forge, sims: dict[str, Simulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actions.store.desired_state.MAX_INSTANCES", 1)
    pinned: dict[str, str | bool] = {"model": SMALL, "pinned": True}
    assert (await forge.http.post("/v1/daemons/b/desired?model=other/model")).status_code == 200
    answer = (await forge.http.post("/v1/fleet/pin", params={**pinned, "site": "east"})).json()
    assert (answer["done"], answer["failed"]) == (1, 1)
    well, full = answer["results"]
    assert [one["instance_id"] for one in well["desired"]["instances"]] == [SMALL]
    assert (full["daemon"], full["problem"]["parameter"]) == ("b", "instances")
    for reconciler in forge.parts.reconcilers:
        await reconciler.tick()
    for operation in tuple(forge.parts.service.operations.live.values()):
        await operation.done.wait()
    assert holders(sims, SMALL) == ["a"]
    unpinned: dict[str, str | bool] = {"instance_id": SMALL, "pinned": False, "daemon": "a,b"}
    answer = (await forge.http.post("/v1/fleet/pin", params=unpinned)).json()
    assert [len(one["desired"]["instances"]) for one in answer["results"]] == [0, 1]
    reader = {"Authorization": f"Bearer {await forge.token('read', name='reader')}"}
    refused = await forge.http.post("/v1/fleet/pin", params={**pinned, "site": "east"}, headers=reader)
    assert refused.status_code == 403
    assert (await forge.http.post("/v1/fleet/pin", params=pinned)).status_code == 422


async def test_what_one_daemon_refuses_is_a_part_of_the_result(
    forge: Forge, sims: dict[str, Simulator]
) -> None:
    await sims["b"].stop()
    answer = (
        await forge.http.post("/v1/fleet/load", params={"model": SMALL, "site": "east", "wait": 20})
    ).json()
    assert (answer["done"], answer["failed"]) == (1, 1)
    assert [one["problem"] and one["problem"]["status"] for one in answer["results"]] == [None, 503]
    assert holders(sims, SMALL) == ["a"]


async def test_a_repeated_request_of_a_group_is_the_same_operations(forge: Forge) -> None:
    asked: dict[str, Any] = {"model": SMALL, "daemon": "a,c", "wait": 20}
    first, again = [
        (await forge.http.post("/v1/fleet/load", params=asked, headers={"Idempotency-Key": "k"})).json()
        for _ in range(2)
    ]
    assert first == again
    assert len({one["operation"]["id"] for one in first["results"]}) == 2


@pytest.mark.parametrize(
    ("query", "status"), [("", 422), ("?daemon=x", 404), ("?site=north", 404), ("?daemon=c&site=east", 404)]
)
async def test_a_selection_of_nothing_is_refused(forge: Forge, query: str, status: int) -> None:
    assert (await forge.http.post(f"/v1/fleet/eject-all{query}")).status_code == status


async def missing(forge: Forge) -> float | None:
    """Read how many daemons the group lacked at the last tick; None without a group."""
    text = (await forge.http.get("/metrics")).text
    found = re.search(r'^daemonpulse_group_missing_daemons\{group="chat"\} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else None


async def desired(forge: Forge, **asked: Any) -> dict[str, Any]:
    answer = await forge.http.post("/v1/fleet/desired", params={"name": "chat", "model": SMALL, **asked})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_a_group_is_loaded_in_waves_spread_over_sites_and_kept(
    forge: Forge, sims: dict[str, Simulator]
) -> None:
    dry = await desired(forge, at_least=2, daemon="a,b,c", dry_run=True)
    assert dry["plan"]["steps"] == [{"daemon": "a", "replaces": False}]
    await settle(forge)
    assert holders(sims, SMALL) == []
    await desired(forge, at_least=2, daemon="a,b,c")
    await settle(forge)
    assert holders(sims, SMALL) == ["a"]
    assert await missing(forge) == 2
    await settle(forge)
    assert holders(sims, SMALL) == ["a", "c"]
    assert await missing(forge) == 1
    await settle(forge)
    assert holders(sims, SMALL) == ["a", "c"]
    assert await missing(forge) == 0
    await sims["a"].stop()
    await settle(forge)
    assert holders(sims, SMALL)[-2:] == ["b", "c"]
    rows = [row for row in await forge.audit("intent") if row["actor"] == "fleet"]
    assert {row["detail"]["parameters"]["group"] for row in rows} == {"desired:chat"}


async def test_another_configuration_follows_one_idle_daemon_at_a_time(
    forge: Forge, sims: dict[str, Simulator]
) -> None:
    await desired(forge, at_least=2, site="east", wave=2, context_length=2048)
    await settle(forge)
    assert holders(sims, SMALL) == ["a", "b"]
    sims["a"].daemon.request(SMALL, ask=_long_ask(sims["a"]))
    sims["a"].daemon.stall(SMALL)
    await desired(forge, at_least=2, site="east", wave=1, context_length=4096)
    await settle(forge)
    await settle(forge)
    contexts = {box: sims[box].daemon.instance(SMALL).config.context_length for box in ("a", "b")}
    assert contexts == {"a": 2048, "b": 4096}
    shown = (await forge.http.get("/v1/fleet/desired")).json()["groups"][0]
    assert shown["plan"]["waiting"] == {"a": "has requests in flight, with another configuration"}


async def test_the_kill_switch_of_a_site_is_not_undone_until_the_group_is_set_again(
    forge: Forge, sims: dict[str, Simulator]
) -> None:
    await desired(forge, at_least=1, site="east")
    await settle(forge)
    await forge.http.post("/v1/fleet/eject-all?site=east&wait=20")
    await settle(forge)
    assert holders(sims, SMALL) == []
    again = await desired(forge, at_least=1, site="east")
    assert again["group"]["suspended"] == []
    await settle(forge)
    assert holders(sims, SMALL) == ["a"]


async def test_what_a_group_wants_is_not_reaped_and_a_removed_group_wants_nothing(
    forge: Forge, sims: dict[str, Simulator]
) -> None:
    await desired(forge, at_least=1, daemon="a")
    await settle(forge)
    assert await forge.parts.service.kept("a") == {SMALL}
    removed = await forge.http.post("/v1/fleet/desired?name=chat&at_least=0")
    assert removed.json()["group"] is None
    assert await forge.parts.service.kept("a") == frozenset()
    await settle(forge)
    assert await missing(forge) is None
    assert holders(sims, SMALL) == ["a"]
    assert (await forge.http.post("/v1/fleet/desired?name=chat&at_least=0")).status_code == 404


async def test_the_list_of_daemons_tells_their_site(forge: Forge) -> None:
    listed = (await forge.http.get("/v1/daemons")).json()["daemons"]
    assert {one["daemon"]: one["site"] for one in listed} == dict(zip(NAMES, SITES, strict=True))
