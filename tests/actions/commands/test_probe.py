"""Probes with exact times, over the daemon's REST side."""

from llmster_sim.server import Simulator
from tests.actions.conftest import BIG, SMALL, Forge, loaded


async def test_a_probe_times_first_token_and_reasoning(forge: Forge, sim: Simulator) -> None:
    loads = sim.daemon.totals.loads
    response = await forge.post("probe", model="qwen/qwen3-8b")
    assert response.status_code == 200, response.text
    result = response.json()["result"]
    assert result["time_to_first_token_seconds"] > 0
    assert result["reasoning_seconds"] is not None
    assert result["load_seconds"] is None
    assert result["daemon_stats"]["total_output_tokens"] > 0
    marks = result["marks_seconds"]
    assert marks["chat.start"] <= marks["prompt_processing.start"] <= marks["chat.end"]
    labels = {"daemon": "box", "model": "qwen/qwen3-8b"}
    name = "daemonpulse_probe_time_to_first_token_seconds"
    assert await forge.metric(name, **labels) == result["time_to_first_token_seconds"]
    assert await forge.metric("daemonpulse_probe_load_seconds", **labels) is None
    assert sim.daemon.totals.loads == loads


async def test_a_probe_of_a_model_that_is_not_loaded_times_the_load_apart(
    forge: Forge, sim: Simulator
) -> None:
    result = (await forge.post("probe", model=SMALL)).json()["result"]
    assert result["load_seconds"] > 0
    assert result["time_to_first_token_seconds"] < result["total_seconds"]
    assert SMALL in loaded(sim)
    assert await forge.metric("daemonpulse_probe_load_seconds", model=SMALL) == result["load_seconds"]


async def test_a_probe_never_loads_what_does_not_fit(forge: Forge, sim: Simulator) -> None:
    response = await forge.post("probe", model=BIG)
    assert response.status_code == 409
    assert response.json()["type"] == "urn:daemonpulse:problem:does-not-fit"
    assert BIG not in loaded(sim)


async def test_an_embedding_model_is_not_probed(forge: Forge) -> None:
    response = await forge.post("probe", model="text-embedding-nomic-embed-text-v1.5")
    assert (response.status_code, response.json()["parameter"]) == (422, "model")


async def test_a_probe_can_be_cancelled(forge: Forge, sim: Simulator) -> None:
    sim.daemon.stall("qwen/qwen3-8b")
    begun = (await forge.post("probe", wait=0.2, model="qwen/qwen3-8b")).json()
    cancelled = await forge.http.post(f"/v1/operations/{begun['id']}/cancel")
    assert cancelled.json()["state"] == "cancelled"


async def test_a_probe_that_the_daemon_fails_is_failed(forge: Forge, sim: Simulator) -> None:
    sim.faults.html("POST /api/v1/chat", status=500, times=1)
    response = await forge.post("probe", model="qwen/qwen3-8b")
    assert response.status_code == 503
    assert "/api/v1/chat" in response.json()["detail"]
