"""Desired instances: under which name they are loaded, what they replace, and those that cannot be read."""

import pytest

from actions.store.database import StorageFailed
from actions.store.desired_state import DesiredState
from llmster_sim.server import Simulator
from tests.actions.commands.test_reconciler import JIT, PINNED, Clock, clock, desire, reconciler_of, ticks
from tests.actions.conftest import SMALL, Forge, loaded

__all__ = ["clock"]


@pytest.mark.parametrize("model", [SMALL, f"{PINNED}@q8_0"])
async def test_a_desired_instance_without_a_name_is_loaded_once_under_the_name_it_is_listed_by(
    forge: Forge, sim: Simulator, model: str
) -> None:
    await forge.load(SMALL, instance_id="another")
    await desire(forge, model=model)
    await ticks(forge, count=4)
    assert model in loaded(sim)
    assert len([entry for entry in await forge.audit("intent") if entry["actor"] == "reconciler"]) == 1
    await forge.post("models/eject", instance_id=model)
    await ticks(forge)
    assert model not in loaded(sim)


async def test_a_desired_instance_replaces_nothing(forge: Forge) -> None:
    changed = await forge.http.post(forge.path("desired"), params={"model": SMALL, "replace": JIT})
    body = {"instances": [{"model": SMALL, "replace": [JIT]}]}
    whole = await forge.http.put(forge.path("desired"), json=body)
    assert (changed.status_code, whole.status_code) == (422, 422)


async def test_desired_instances_that_cannot_be_read_leave_no_operation_behind(
    forge: Forge, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desire(forge, model=SMALL)
    service, get = forge.parts.service, forge.parts.service.desired.get
    answers = [get]

    async def once(daemon: str) -> DesiredState:
        if not answers:
            raise StorageFailed("the disk is gone")
        return await answers.pop()(daemon)

    with monkeypatch.context() as patch:
        patch.setattr(service.desired, "get", once)
        await ticks(forge, count=1)
    assert SMALL not in loaded(sim)
    (outcome,) = await forge.audit("outcome")
    assert outcome["detail"]["state"] == "cancelled"
    await ticks(forge)
    assert SMALL in loaded(sim)


async def test_a_desired_instance_of_another_version_is_listed_with_its_problem_and_never_reaped(
    forge: Forge, sim: Simulator, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    await desire(forge, model=PINNED, reap_idle_seconds=600)
    await forge.parts.service.storage.write(
        lambda db: db.execute("UPDATE desired SET request = json_set(request, '$.colour', 'red')")
    )
    (listed,) = (await forge.http.get(forge.path("desired"))).json()["instances"]
    assert (listed["instance_id"], listed["model"]) == (PINNED, None)
    assert "colour" in listed["problem"]
    reconciler = reconciler_of(forge, clock)
    await ticks(forge, reconciler)
    clock.now += 601
    await ticks(forge, reconciler)
    assert loaded(sim) == {PINNED}
    sim.daemon.unload(PINNED)
    await ticks(forge, reconciler)
    assert loaded(sim) == set()
    told = [record for record in caplog.records if record.getMessage() == "desired instance not loaded"]
    assert {vars(record)["instance_id"] for record in told} == {PINNED}
