"""The daemon lists an instance that cannot be read: it may be any, so nothing is said to be gone or done."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmster_sim.models.catalogue import LLAMA_OLDER
from llmster_sim.server import Simulator
from llmster_sim.wire.transfer_calls import HUB_MODEL, NEW_ENGINE
from tests.actions.commands.test_crashes import crashed, recovered
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


def _without(key: str, name: str) -> Callable[[Any], Any]:
    """Take a key from the entry of a list that has this name."""
    return lambda listed: [
        {k: v for k, v in one.items() if k != key} if name in one.values() else one for one in listed
    ]


REFUSED = "urn:daemonpulse:problem:daemon-unreadable"


async def test_a_model_that_may_be_an_entry_that_cannot_be_read_is_not_said_to_be_missing(
    start_forge: StartForge, sim: Simulator
) -> None:
    sim.faults.alter("system.listDownloadedModels", _without("type", SMALL))
    forge = await start_forge(sim)
    for response in (
        await forge.load(),
        await forge.http.post(forge.path("preflight"), params={"model": SMALL}),
        await forge.http.post(forge.path("fit"), params={"model": SMALL}),
        await forge.post("probe", model=SMALL),
    ):
        assert response.status_code == 503, response.text
        assert response.json()["type"] == REFUSED
        assert f"({SMALL}): DownloadedModel.type: missing" in response.json()["detail"]
    sim.faults.clear()
    gone = await forge.load("no/such-model")
    assert gone.json()["type"] == "urn:daemonpulse:problem:not-found", gone.text


async def test_an_engine_that_may_be_an_entry_that_cannot_be_read_is_not_said_to_be_missing(
    start_forge: StartForge, sim: Simulator
) -> None:
    forge = await start_forge(sim, scope="admin")
    sim.faults.alter("runtime.listEngines", _without("version", LLAMA_OLDER.name))
    engine: dict[str, Any] = {"engine": LLAMA_OLDER.name, "version": LLAMA_OLDER.version}
    selected = await forge.post("engines/select", model_format="GGUF", **engine)
    assert (selected.status_code, selected.json()["type"]) == (503, REFUSED), selected.text
    assert f"({LLAMA_OLDER.name}): Engine.version: missing" in selected.json()["detail"]
    listed = (await forge.http.get(forge.path("engines"))).json()
    assert listed["unreadable"] > 0

    def unreadable_offer(answer: Any) -> Any:
        return {**answer, "extensions": [{**one, "version": 1} for one in answer["extensions"]]}

    sim.faults.alter("runtime.searchRuntimeExtensions", unreadable_offer)
    updated = await forge.post("engines/update", engine=NEW_ENGINE.name, version=NEW_ENGINE.version)
    assert (updated.status_code, updated.json()["type"]) == (503, REFUSED), updated.text
    assert sim.calls["runtime", "downloadRuntimeExtension"] == 0


async def test_a_probe_does_not_judge_a_load_of_a_model_that_may_be_loaded(
    forge: Forge, sim: Simulator
) -> None:
    unreadable(sim, QWEN)
    response = await forge.post("probe", model=SMALL)
    assert (response.status_code, response.json()["type"]) == (503, REFUSED), response.text


async def test_lists_say_how_many_entries_they_lack(start_forge: StartForge, sim: Simulator) -> None:
    unreadable(sim, QWEN)
    forge = await start_forge(sim)
    listed = (await forge.http.get(forge.path("instances"))).json()
    assert (len(listed["instances"]), listed["unreadable"]) == (len(loaded(sim)) - 1, 1)


async def test_so_does_the_list_of_models(start_forge: StartForge, sim: Simulator) -> None:
    sim.faults.alter("system.listDownloadedModels", _without("type", SMALL))
    forge = await start_forge(sim)
    listed = (await forge.http.get(forge.path("models"))).json()
    assert SMALL not in {one["model"] for one in listed["models"]}
    assert listed["unreadable"] == 1


async def test_a_list_of_models_that_cannot_be_read_is_not_an_empty_one(
    start_forge: StartForge, sim: Simulator
) -> None:
    sim.faults.alter("system.listDownloadedModels", lambda _listed: {"of": "another shape"})
    forge = await start_forge(sim)
    response = await forge.http.get(forge.path("models"))
    assert (response.status_code, response.json()["type"]) == (503, REFUSED), response.text


@pytest.mark.parametrize("changed", [{"data": "none"}, {"data": [{"id": SMALL}]}, {}])
async def test_the_kill_switch_says_that_it_does_not_know_what_is_being_loaded(
    forge: Forge, sim: Simulator, changed: Any
) -> None:
    sim.faults.alter("GET /api/v0/models", lambda _answer: changed)
    response = await forge.post("models/eject-all")
    assert response.status_code == 200, response.text
    assert response.json()["result"]["still_loading"] is None
    assert loaded(sim) == set()
    sim.faults.clear()
    again = await forge.post("models/eject-all")
    assert again.json()["result"]["still_loading"] == []


async def test_a_state_of_a_model_that_is_not_known_may_be_loading(forge: Forge, sim: Simulator) -> None:
    sim.faults.unknown_enum("GET /api/v0/models", key="state", value="warming-up")
    response = await forge.post("models/eject-all")
    assert (response.status_code, response.json()["result"]["still_loading"]) == (200, None), response.text


async def test_the_kill_switch_ejects_what_one_namespace_lists_when_another_cannot_be_read(
    forge: Forge, sim: Simulator
) -> None:
    everything = loaded(sim)
    sim.faults.alter("embedding.listLoaded", lambda _listed: "no list")
    response = await forge.post("models/eject-all")
    assert response.status_code == 409, response.text
    assert "embedding.listLoaded" in response.json()["detail"]
    assert {name for name in everything if "embed" in name} == loaded(sim)


async def test_what_is_recommended_and_cannot_be_read_is_left_to_the_daemon_to_choose(
    forge: Forge, sim: Simulator
) -> None:
    def change(answer: Any) -> Any:
        options = [
            {**one, "sizeBytes": "2 GB"} if one.get("recommended") else one for one in answer["results"]
        ]
        return {**answer, "results": options}

    sim.faults.alter("repository.getModelDownloadOptions", change)
    response = await forge.post("models/download", model=HUB_MODEL)
    assert response.status_code == 200, response.text
    assert sim.calls["repository", "downloadModel"] == 0


@pytest.mark.parametrize(
    ("states", "state", "still_loading"),
    [
        ({}, "done", None),
        ({"data": []}, "done", []),
        ({"data": [{"id": "m", "state": "loading"}]}, "failed", None),
    ],
    ids=["untold", "nothing", "something"],
)
async def test_a_kill_switch_that_a_crash_cut_short_tells_what_is_being_loaded_too(
    *, start_forge: StartForge, sim: Simulator, tmp_path: Path, states: Any, state: str, still_loading: Any
) -> None:
    for name in loaded(sim):
        sim.daemon.unload(name)
    sim.faults.alter("GET /api/v0/models", lambda _answer: states)
    home = tmp_path / "state"
    await crashed(home, sim, {"action": "eject_all"}, state_word="running", before={"references": {}})
    _, (operation,) = await recovered(start_forge, sim, home)
    assert operation["state"] == state, operation
    if state == "done":
        assert operation["result"]["still_loading"] == still_loading
    else:
        assert operation["problem"]["still_loading"] == ["m"]
