"""Instances of a domain that only some daemons have are listed, counted and ejected like any other."""

import dataclasses
from collections.abc import AsyncIterator

import pytest

from llmster_sim.server import SimConfig, Simulator
from tests.actions.conftest import SMALL, Forge, forge, loaded, start_forge

__all__ = ["forge", "start_forge"]

JUDGE = "acme/judge"


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    """A daemon with a decision model loaded beside the others."""
    async with Simulator(SimConfig(scenario="idle", speed=100.0, decisions=True)) as simulator:
        daemon = simulator.daemon
        small = next(model for model in daemon.models if model.key == SMALL)
        daemon.models = (*daemon.models, dataclasses.replace(small, key=JUDGE, type="decision"))
        daemon.load(JUDGE, instant=True)
        yield simulator


async def test_the_kill_switch_ejects_instances_of_every_domain(forge: Forge, sim: Simulator) -> None:
    assert JUDGE in loaded(sim)
    done = await forge.post("models/eject-all")
    assert JUDGE in done.json()["result"]["ejected"]
    assert loaded(sim) == set()
    assert sim.calls["decision", "unloadModel"] == 1


async def test_one_instance_of_such_a_domain_is_listed_and_ejected(forge: Forge, sim: Simulator) -> None:
    listed = []
    while JUDGE not in listed:  # the namespace opens beside the first reading
        answer = (await forge.http.get(forge.path("instances"))).json()
        listed = [one["instance_id"] for one in answer["instances"]]
    done = await forge.post("models/eject", instance_id=JUDGE)
    assert done.json()["result"]["ejected"] == [JUDGE]
    assert JUDGE not in loaded(sim)


async def test_a_busy_one_is_refused_like_any_other(forge: Forge, sim: Simulator) -> None:
    while JUDGE not in (await forge.http.get(forge.path("instances"))).text:
        pass
    busy = {"status": "processing", "queued": 2}
    sim.faults.alter("decision.getInstanceProcessingState", lambda _answer: busy)
    refused = await forge.post("models/eject", instance_id=JUDGE)
    assert (refused.status_code, refused.json()["queued"]) == (409, 2)
