"""The daemon lists an instance that cannot be read: it may be any, so nothing is said to be gone or done."""

from typing import Any

from llmster_sim.models.catalogue import LLAMA_OLDER
from llmster_sim.server import Simulator
from llmster_sim.wire.transfer_calls import NEW_ENGINE
from tests.actions.conftest import SMALL, Forge, StartForge, loaded

QWEN = "qwen/qwen3-8b"


def unreadable(sim: Simulator, identifier: str) -> None:
    """Have the daemon list an instance without the keys that make it one."""

    def change(listed: Any) -> Any:
        return [{"type": "llm"} if one["identifier"] == identifier else one for one in listed]

    sim.faults.alter("llm.listLoaded", change)


async def test_an_eject_is_not_verified_while_an_instance_cannot_be_read(
    forge: Forge, sim: Simulator
) -> None:
    await forge.load()
    unreadable(sim, QWEN)
    response = await forge.post("models/eject", instance_id=SMALL)
    assert response.status_code == 409, response.text
    assert "may be still loaded" in response.json()["detail"]
    sim.faults.clear()
    assert (await forge.post("models/eject", instance_id=QWEN)).status_code == 200


async def test_an_instance_that_cannot_be_read_is_not_said_to_be_unknown(
    forge: Forge, sim: Simulator
) -> None:
    unreadable(sim, QWEN)
    response = await forge.post("models/eject", instance_id=QWEN)
    assert response.status_code == 409, response.text
    assert response.json()["type"] == "urn:daemonpulse:problem:not-verified"
    assert QWEN in loaded(sim)


async def test_nothing_is_loaded_beside_an_instance_that_cannot_be_read(forge: Forge, sim: Simulator) -> None:
    unreadable(sim, QWEN)
    response = await forge.load(QWEN)
    assert response.status_code == 503, response.text
    assert "could not be read" in response.json()["detail"]
    assert sim.calls["llm", "loadModel"] == 0
    assert f"{QWEN}:2" not in loaded(sim)


async def test_the_kill_switch_ejects_what_it_can_read_and_says_that_it_is_not_all(
    forge: Forge, sim: Simulator
) -> None:
    await forge.load()
    unreadable(sim, QWEN)
    response = await forge.post("models/eject-all")
    assert response.status_code == 409, response.text
    assert "could not be read" in response.json()["detail"]
    assert loaded(sim) == {QWEN}


async def test_the_reconciler_takes_nothing_for_gone_that_it_could_not_read(
    forge: Forge, sim: Simulator
) -> None:
    await forge.tick()
    unreadable(sim, QWEN)
    await forge.tick()
    sim.faults.clear()
    await forge.tick()
    told = [entry["action"] for entry in await forge.audit("event")]
    assert not {"unloaded-by-itself", "loaded-by-itself"} & set(told)


async def test_a_load_whose_answer_cannot_be_read_is_looked_up(forge: Forge, sim: Simulator) -> None:
    sim.faults.alter("llm.loadModel", lambda message: {**message, "type": 5})
    response = await forge.load()
    assert response.status_code == 200, response.text
    assert response.json()["result"]["instance_id"] == SMALL
    assert SMALL in loaded(sim)


async def test_a_download_without_a_job_to_follow_is_not_done(forge: Forge, sim: Simulator) -> None:
    sim.faults.alter("POST /api/v1/models/download", lambda answer: {"status": answer["status"]})
    response = await forge.post("models/download", model="new/model")
    assert response.status_code == 409, response.text
    assert response.json()["type"] == "urn:daemonpulse:problem:interrupted"


async def test_a_download_with_an_odd_size_is_followed_to_its_end(forge: Forge, sim: Simulator) -> None:
    path = "GET /api/v1/models/download/status/*"
    sim.faults.alter(path, lambda answer: {**answer, "total_size_bytes": "2 GB"})
    response = await forge.post("models/download", model="new/model")
    assert response.status_code == 200, response.text
    assert response.json()["result"] == {"model": "new/model", "status": "completed", "size_bytes": None}


async def test_no_engine_is_selected_or_listed_where_the_selection_cannot_be_read(
    start_forge: StartForge, sim: Simulator
) -> None:
    forge = await start_forge(sim, scope="admin")
    sim.faults.alter("runtime.getEngineSelections", lambda _answer: {"selections": {}})
    engine: dict[str, Any] = {
        "engine": LLAMA_OLDER.name,
        "version": LLAMA_OLDER.version,
        "model_format": "GGUF",
    }
    for response in (
        await forge.post("engines/select", **engine),
        await forge.post("engines/update", engine=NEW_ENGINE.name, version=NEW_ENGINE.version),
        await forge.http.get(forge.path("engines")),
    ):
        assert response.status_code == 503, response.text
        assert response.json()["type"] == "urn:daemonpulse:problem:daemon-unreadable"
    assert sim.calls["runtime", "selectEngine"] == 0
    assert sim.calls["runtime", "downloadRuntimeExtension"] == 0
