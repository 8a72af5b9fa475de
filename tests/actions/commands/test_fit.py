"""Fit over HTTP: what is called fitting loads, what would have to go is idle and unpinned, and it asks little."""

from collections import Counter

from actions.domain.fit import MAX_ESTIMATES
from llmster_sim.server import Simulator
from tests.actions.commands.test_load_eject import _long_ask
from tests.actions.conftest import SMALL, Forge, NoDriver, StartForge, loaded

MODEL = "mistralai/magistral-small-2509"
BIG = "openai/gpt-oss-20b"
BUSY = "qwen/qwen3-8b"


async def test_the_context_that_fits_now_loads_and_a_question_changes_nothing(
    forge: Forge, sim: Simulator
) -> None:
    for name in loaded(sim):
        sim.daemon.unload(name)
    before = Counter(sim.calls)
    response = await forge.post("fit", wait=None, model=MODEL)
    assert response.status_code == 200, response.text
    answer = response.json()
    spent = (sim.calls - before)["llm", "estimateModelUsage"]
    assert answer["estimates"] == spent <= MAX_ESTIMATES == answer["max_estimates"]
    assert answer["fits"]
    assert not loaded(sim)
    assert await forge.audit("intent") == []
    context = answer["now"]["context_length"]
    done = await forge.load(MODEL, context_length=context, gpu_offload="max")
    assert done.status_code == 200, done.text
    again = (await forge.post("fit", wait=None, model=MODEL)).json()
    assert again["samples"] == 1


async def test_a_context_that_is_given_is_judged_alone(forge: Forge) -> None:
    answer = (await forge.post("fit", wait=None, model=SMALL, context_length=4096, parallel=2)).json()
    assert (answer["now"]["context_length"], answer["wanted"], answer["estimates"]) == (4096, None, 1)
    assert answer["parallel"] == 2
    assert (await forge.post("fit", wait=None, model=SMALL, kv_cache_type="q8")).status_code == 200


async def test_what_would_have_to_go_is_never_busy_or_pinned(forge: Forge, sim: Simulator) -> None:
    idle = (await forge.post("fit", wait=None, model=BIG, context_length=16384)).json()
    assert idle["fits"] is False
    assert idle["wanted"]["evict"] == [BUSY]
    assert idle["wanted"]["is_minimal"]
    assert sum(gpu["freed_bytes"] for gpu in idle["wanted"]["gpus"]) > 0
    sim.daemon.request(BUSY, ask=_long_ask(sim))
    sim.daemon.stall(BUSY)
    busy = (await forge.post("fit", wait=None, model=BIG, context_length=16384)).json()
    assert BUSY not in (busy["wanted"]["evict"] or ())
    assert {"instance_id": BUSY, "why": "busy"} in busy["kept"]
    await forge.http.post(forge.path("desired"), params={"model": BUSY})
    pinned = (await forge.post("fit", wait=None, model=BIG, context_length=16384)).json()
    assert {"instance_id": BUSY, "why": "pinned"} in pinned["kept"]


async def test_what_cannot_be_meant_is_refused(forge: Forge) -> None:
    assert (await forge.post("fit", wait=None, model="nobody/nothing")).status_code == 404
    assert (await forge.post("fit", wait=None)).status_code == 422


async def test_without_a_reading_of_memory_it_says_why(start_forge: StartForge, sim: Simulator) -> None:
    forge = await start_forge(sim, gpus={"nvidia": NoDriver()})
    response = await forge.post("fit", wait=None, model=SMALL)
    assert response.status_code == 409
    assert response.json()["type"] == "urn:daemonpulse:problem:memory-unknown"
