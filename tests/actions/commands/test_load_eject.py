"""Loading and ejecting over HTTP: what is asked for is what there is, and never twice."""

import asyncio
import dataclasses
from collections.abc import Callable

import pytest

from llmster_sim import errors
from llmster_sim.engine.instances import Instance
from llmster_sim.engine.jobs import Ask
from llmster_sim.engine.requests import chat_ask
from llmster_sim.models.prompts import Message
from llmster_sim.server import Simulator
from tests.actions.conftest import SMALL, Forge, loaded


async def test_a_load_waits_shows_progress_and_says_what_is_there(forge: Forge, sim: Simulator) -> None:
    begun = await forge.load(wait=None, ttl_seconds=600, context_length=2048, parallel=2)
    assert begun.status_code == 202
    assert begun.headers["location"] == f"/v1/operations/{begun.json()['id']}"
    operation = await forge.done(begun)
    assert operation["state"] == "done"
    assert operation["progress"] == 1
    result = operation["result"]
    assert (result["instance_id"], result["context_length"], result["ttl_seconds"]) == (SMALL, 2048, 600)
    instance = sim.daemon.instance(SMALL)
    assert (instance.ttl_ms, instance.config.context_length, instance.config.parallel) == (600_000, 2048, 2)


async def test_lists_and_shares_can_be_written_in_the_query(forge: Forge, sim: Simulator) -> None:
    response = await forge.http.post(
        forge.path("models/load"),
        params={
            "model": SMALL,
            "instance_id": "mine",
            "gpu_offload": 0.5,
            "split": "priorityOrder",
            "gpu_priority": [1],
            "disabled_gpus": [0],
            "flash_attention": False,
            "wait": 10,
        },
    )
    assert response.status_code == 200, response.text
    config = sim.daemon.instance("mine").config
    assert (config.offload_ratio, config.flash_attention) == (0.5, False)
    assert (config.split.strategy, config.split.priority, config.split.disabled) == (
        "priorityOrder",
        (1,),
        (0,),
    )


async def test_explicit_context_switches_auto_fit_off(forge: Forge, sim: Simulator) -> None:
    await forge.load(context_length=1024)
    fields = dict(sim.daemon.instance(SMALL).config.fields)
    assert fields["llm.load.llama.autoFit"] is False


async def test_values_travel_in_the_query_and_a_body_with_some_is_refused(
    forge: Forge, sim: Simulator
) -> None:
    response = await forge.http.post(
        forge.path("models/load"), params={"model": SMALL}, json={"context_length": 2048}
    )
    assert (response.status_code, "query parameters" in response.json()["detail"]) == (400, True)
    assert ("llm", "loadModel") not in sim.calls
    missing = await forge.http.post(forge.path("models/load"))
    assert (missing.status_code, missing.json()["parameter"]) == (422, "model")
    as_grafana = await forge.http.post(
        forge.path("models/load"), params={"model": SMALL, "wait": 10}, json={}
    )
    assert as_grafana.status_code == 200
    paths = (await forge.http.get("/openapi.json")).json()["paths"]
    for path, name in (("models/load", "model"), ("models/eject", "instance_id"), ("probe", "model")):
        post = paths["/v1/daemons/{daemon}/" + path]["post"]
        assert "requestBody" not in post
        (found,) = [one for one in post["parameters"] if one["name"] == name]
        assert (found["in"], found["required"]) == ("query", True)
    gate = paths["/v1/mcp/servers/{server}/tools/{tool}/gate"]["post"]["parameters"]
    assert [one["required"] for one in gate if one["name"] == "decision"] == [True]


async def test_loading_again_with_the_same_configuration_is_success_without_a_second_copy(
    forge: Forge, sim: Simulator
) -> None:
    first = (await forge.load(context_length=2048)).json()
    again = (await forge.load(context_length=2048)).json()
    assert again["result"]["already_loaded"] is True
    assert again["result"]["instance_reference"] == first["result"]["instance_reference"]
    assert sim.calls["llm", "loadModel"] == 1
    assert f"{SMALL}:2" not in loaded(sim)


async def test_a_context_beyond_the_models_maximum_counts_as_the_maximum(
    forge: Forge, sim: Simulator
) -> None:
    for _ in range(2):
        response = await forge.load(context_length=99_999_999, gpu_offload="off", force=True, reason="test")
        assert response.status_code == 200, response.text
    assert sim.calls["llm", "loadModel"] == 1


async def test_an_instance_with_another_configuration_is_not_doubled_but_refused(
    forge: Forge, sim: Simulator
) -> None:
    await forge.load(context_length=2048)
    response = await forge.load(context_length=4096)
    assert response.status_code == 409
    problem = response.json()
    assert problem["type"] == "urn:daemonpulse:problem:instance-exists"
    assert problem["differences"] == ["context_length"]
    assert sim.calls["llm", "loadModel"] == 1


async def test_an_instance_with_defaults_is_not_taken_for_one_with_options(
    forge: Forge, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon answers only what was set; what it leaves out is the schema's default, or unknown."""
    await forge.load()
    partial = {"fields": [{"key": "llm.load.contextLength", "value": 4096}]}
    monkeypatch.setattr("llmster_sim.wire.model_calls.config_fields", lambda _instance: partial)
    response = await forge.load(parallel=2, gpu_offload=0.5)
    assert response.status_code == 409, response.text
    assert response.json()["differences"] == ["parallel", "gpu_offload"]
    assert "with another parallel and with an unknown gpu_offload" in response.json()["detail"]
    assert (await forge.load(parallel=4)).json()["result"]["already_loaded"] is True
    assert sim.calls["llm", "loadModel"] == 1


async def test_rest_says_what_the_configuration_leaves_out(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    await forge.load(parallel=2, flash_attention=True)
    monkeypatch.setattr("llmster_sim.wire.model_calls.config_fields", lambda _instance: {"fields": []})
    assert (await forge.load(parallel=2, flash_attention=True)).json()["result"]["already_loaded"] is True
    assert (await forge.load(parallel=3)).json()["differences"] == ["parallel"]


async def test_another_variant_of_a_model_is_not_taken_for_the_one_that_is_asked_for(
    forge: Forge, sim: Simulator
) -> None:
    both = "qwen/qwen3-8b@q4_k_m", "qwen/qwen3-8b@q8_0"
    for model in ("qwen/qwen3-8b", both[0]):
        assert (await forge.load(model)).json()["result"]["already_loaded"] is True
    refused = await forge.load(both[1])
    assert (refused.status_code, refused.json()["differences"]) == (409, ["model"]), refused.text
    assert "another model" in refused.json()["detail"]
    sim.faults.alter("llm.listLoaded", lambda listed: [{**one, "selectedVariant": None} for one in listed])
    untold = await forge.load(both[0])
    assert (untold.status_code, "unknown model" in untold.json()["detail"]) == (409, True), untold.text


async def test_replace_ejects_first_and_loads_the_new_configuration(forge: Forge, sim: Simulator) -> None:
    await forge.load(context_length=2048)
    response = await forge.load(context_length=4096, replace=SMALL)
    assert response.status_code == 200, response.text
    assert response.json()["result"]["replaced"] == [SMALL]
    assert sim.daemon.instance(SMALL).config.context_length == 4096


async def test_a_model_that_is_not_on_disk_is_404_and_says_what_is(forge: Forge) -> None:
    response = await forge.load("nobody/nothing")
    assert response.status_code == 404
    assert SMALL in response.text or "qwen/qwen3-8b" in response.text


async def test_an_embedding_model_loads_in_its_own_namespace(forge: Forge, sim: Simulator) -> None:
    model = "text-embedding-nomic-embed-text-v1.5"
    await forge.post("models/eject", instance_id=model)
    response = await forge.load(model, context_length=1024)
    assert response.status_code == 200, response.text
    assert sim.calls["embedding", "loadModel"] == 1
    refused = await forge.load(model, instance_id="e2", parallel=2)
    assert (refused.status_code, refused.json()["parameter"]) == (422, "parallel")


@pytest.mark.parametrize(("kind", "words"), [("decision", "listed and watched"), ("hologram", "not known")])
async def test_a_model_of_another_domain_is_shown_and_refused_with_the_reason(
    forge: Forge, sim: Simulator, kind: str, words: str
) -> None:
    odd = dataclasses.replace(sim.daemon.models[0], key="odd/one", type=kind)  # type: ignore[arg-type]
    sim.daemon.models = (*sim.daemon.models, odd)
    listed = (await forge.http.get(forge.path("models"))).json()["models"]
    assert {one["model"]: one["type"] for one in listed}["odd/one"] == kind
    for path in ("models/load", "preflight", "fit", "probe"):
        refused = await forge.post(path, wait=None, model="odd/one")
        assert refused.status_code == 422, (path, refused.text)
        assert f"domain {kind} is {words}" in refused.json()["detail"]
    assert sim.calls["llm", "loadModel"] == 0


async def test_the_daemons_refusal_is_translated_and_its_stack_stays_there(
    forge: Forge, sim: Simulator
) -> None:
    sim.daemon.next_load_failure = errors.out_of_memory()
    response = await forge.load()
    assert response.status_code == 409
    problem = response.json()
    assert problem["type"] == "urn:daemonpulse:problem:daemon-refused"
    assert "CUDA error: out of memory" in problem["detail"]
    assert "/opt/daemon" not in response.text
    assert problem["operation"]["state"] == "failed"


async def test_the_same_idempotency_key_is_the_same_operation(forge: Forge, sim: Simulator) -> None:
    key = {"Idempotency-Key": "deploy-7"}
    first, second = await asyncio.gather(*(forge.load(headers=key) for _ in range(2)))
    third = await forge.load(headers=key)
    assert len({response.json()["id"] for response in (first, second, third)}) == 1
    assert sim.calls["llm", "loadModel"] == 1
    assert len(await forge.audit("intent")) == 1


async def test_an_idempotency_key_is_not_taken_for_another_request(forge: Forge) -> None:
    key = {"Idempotency-Key": "deploy-7"}
    await forge.load(headers=key)
    response = await forge.load(headers=key, context_length=2048)
    assert response.status_code == 422
    assert response.json()["type"] == "urn:daemonpulse:problem:idempotency-key-reused"


async def test_two_tokens_do_not_share_idempotency_keys(forge: Forge) -> None:
    key = {"Idempotency-Key": "deploy-7"}
    other = {**key, "Authorization": f"Bearer {await forge.token('operate')}"}
    first, second = await forge.load(headers=key), await forge.load(headers=other)
    assert first.json()["id"] != second.json()["id"]
    assert second.json()["result"]["already_loaded"] is True


async def test_two_clients_that_race_for_one_model_get_one_copy(forge: Forge, sim: Simulator) -> None:
    responses = await asyncio.gather(*(forge.load(context_length=2048) for _ in range(4)))
    assert [response.status_code for response in responses] == [200] * 4
    assert sim.calls["llm", "loadModel"] == 1
    assert sorted(response.json()["result"]["already_loaded"] for response in responses) == [
        False,
        True,
        True,
        True,
    ]


async def test_loads_of_one_daemon_come_one_after_the_other(forge: Forge, sim: Simulator) -> None:
    most = 0
    start = sim.daemon.loader.start

    def watched(**wanted: object) -> object:
        nonlocal most
        load = start(**wanted)  # type: ignore[arg-type]
        most = max(most, len(sim.daemon.loader.loads))
        return load

    sim.daemon.loader.start = watched  # type: ignore[assignment,method-assign]
    await asyncio.gather(*(forge.load(instance_id=f"copy-{number}") for number in range(4)))
    assert most == 1
    assert {f"copy-{number}" for number in range(4)} <= loaded(sim)


async def test_eject_verifies_that_the_instance_is_gone(forge: Forge, sim: Simulator) -> None:
    response = await forge.post("models/eject", instance_id="qwen/qwen3-8b")
    assert response.json()["result"]["ejected"] == ["qwen/qwen3-8b"]
    assert "qwen/qwen3-8b" not in loaded(sim)


async def test_an_eject_that_the_daemon_only_claims_to_have_done_is_not_believed(
    forge: Forge, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sim.daemon, "unload", lambda *_args, **_kwargs: None)
    response = await forge.post("models/eject", instance_id="qwen/qwen3-8b")
    assert response.status_code == 409
    assert response.json()["type"] == "urn:daemonpulse:problem:not-verified"


async def test_ejecting_what_is_not_loaded_is_404_and_says_what_is(forge: Forge) -> None:
    response = await forge.post("models/eject", instance_id="nothing")
    assert response.status_code == 404
    assert "qwen/qwen3-8b" in response.json()["detail"]


async def test_an_instance_the_daemon_unloads_first_counts_as_ejected(
    forge: Forge, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    unload = sim.daemon.unload

    def late(identifier: str, *, domain: str | None = None) -> None:
        sim.daemon.loader.unload(sim.daemon.instance(identifier))
        unload(identifier, domain=domain)

    monkeypatch.setattr(sim.daemon, "unload", late)
    response = await forge.post("models/eject", instance_id="qwen/qwen3-8b")
    assert response.status_code == 200, response.text


async def test_a_drain_waits_for_the_queue_to_empty(forge: Forge, sim: Simulator) -> None:
    name = "qwen/qwen3-8b"
    sim.daemon.request(name, ask=_long_ask(sim))
    assert sim.daemon.instance(name).queue.queued == 1
    response = await forge.post("models/eject", instance_id=name, drain_seconds=20)
    assert response.json()["result"] == {"ejected": [name], "queued_when_ejected": 0}


async def test_a_drain_gives_up_in_time_and_ejects(forge: Forge, sim: Simulator) -> None:
    name = "qwen/qwen3-8b"
    sim.daemon.request(name, ask=_long_ask(sim))
    sim.daemon.stall(name)
    response = await forge.post("models/eject", instance_id=name, drain_seconds=0.1)
    assert response.json()["result"] == {"ejected": [name], "queued_when_ejected": 1}
    assert name not in loaded(sim)


async def test_a_draining_eject_can_be_cancelled(forge: Forge, sim: Simulator) -> None:
    name = "qwen/qwen3-8b"
    sim.daemon.request(name, ask=_long_ask(sim))
    sim.daemon.stall(name)
    begun = (await forge.post("models/eject", wait=None, instance_id=name, drain_seconds=600)).json()
    cancelled = await forge.http.post(f"/v1/operations/{begun['id']}/cancel")
    assert cancelled.json()["state"] == "cancelled"
    assert name in loaded(sim)


async def test_the_kill_switch_ejects_everything_busy_or_not(forge: Forge, sim: Simulator) -> None:
    sim.daemon.request("qwen/qwen3-8b", ask=_long_ask(sim))
    before = loaded(sim)
    response = await forge.post("models/eject-all", reason="fire")
    assert response.json()["result"]["ejected"] == sorted(before)
    assert loaded(sim) == set()


async def test_the_kill_switch_stops_a_load_under_way_and_those_that_wait(
    forge: Forge, sim: Simulator
) -> None:
    sim.faults.delay("llm.loadModel", 1e6)
    loads = [(await forge.load(wait=None, instance_id=f"copy-{number}")).json()["id"] for number in range(3)]
    response = await forge.post("models/eject-all")
    assert response.status_code == 200, response.text
    assert loaded(sim) == set()
    for operation_id in loads:
        assert (await forge.operation(operation_id))["state"] in {"cancelled", "failed"}


async def test_a_load_can_be_cancelled_and_leaves_nothing(forge: Forge, sim: Simulator) -> None:
    sim.clock.speed = 0.5
    begun = (await forge.load(wait=None)).json()
    async with asyncio.timeout(10):
        while not sim.daemon.loader.loads:  # noqa: ASYNC110 - seen only at the simulator
            await asyncio.sleep(0.01)
    cancelled = await forge.http.post(f"/v1/operations/{begun['id']}/cancel")
    assert (await forge.done(cancelled))["state"] == "cancelled"
    assert SMALL not in loaded(sim)
    assert not sim.daemon.loader.loads


def _long_ask(_sim: Simulator) -> Callable[[Instance], Ask]:
    """A request that takes a while."""

    def ask(instance: Instance) -> Ask:
        return chat_ask(
            model=instance.model,
            messages=[Message(role="user", text="Tell me a long story about the sea")],
            route="/v1/chat/completions",
            stream=False,
        )

    return ask
