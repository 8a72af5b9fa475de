"""The pre-flight of a running service: refuses with the numbers, learns from loads, asks Prometheus when it must."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from llmster_sim.server import SimConfig, Simulator
from tests.actions.conftest import BIG, SMALL, Forge, NoDriver, StartForge, loaded

GIB = 1024**3


async def test_preflight_names_every_number_and_who_holds_the_rest(forge: Forge, sim: Simulator) -> None:
    response = await forge.post("preflight", wait=None, model=BIG)
    assert response.status_code == 200, response.text
    answer = response.json()
    free = sum(gpu.free_bytes for gpu in sim.daemon.gpus.all)
    assert sum(gpu["free_bytes"] for gpu in answer["gpus"]) == free
    assert answer["estimate"]["vram_bytes"] == answer["needed_bytes"]
    assert answer["learned"] is None
    assert answer["memory_source"] == "simulated"
    holders = {(holder["gpu"], holder["pid"]): holder for holder in answer["holders"]}
    assert holders[1, 2211]["process"] == "blender (simulated)"
    assert holders[1, 2211]["memory_bytes"] == 2150 * 1024 * 1024
    frees = {one["instance_id"]: one["bytes"] for one in answer["eject_would_free"]}
    assert frees["qwen/qwen3-8b"] == sim.daemon.instance("qwen/qwen3-8b").vram_bytes


async def test_a_load_that_does_not_fit_is_refused_with_the_numbers_and_left_undone(
    forge: Forge, sim: Simulator
) -> None:
    response = await forge.load(BIG)
    assert response.status_code == 409
    problem = response.json()
    assert problem["type"] == "urn:daemonpulse:problem:does-not-fit"
    assert problem["preflight"]["verdict"] == "does_not_fit"
    assert problem["preflight"]["gpus"][0]["free_bytes"] == sim.daemon.gpus.all[0].free_bytes
    assert sim.calls["llm", "loadModel"] == 0
    (denied,) = await forge.audit("denied")
    assert denied["detail"]["rule"] == "fits"
    assert await forge.metric("daemonpulse_preflight_total", verdict="does_not_fit") == 1
    assert await forge.metric("daemonpulse_actions_total", action="load", outcome="denied") == 1


async def test_force_needs_a_reason_and_both_are_on_record(forge: Forge, sim: Simulator) -> None:
    response = await forge.load(BIG, force=True)
    assert (response.status_code, response.json()["parameter"]) == (422, "reason")
    assert sim.calls["llm", "loadModel"] == 0
    response = await forge.load(BIG, force=True, reason="the estimate is known to be wrong")
    assert sim.calls["llm", "loadModel"] == 1
    intent = (await forge.audit("intent"))[-1]
    assert intent["detail"]["rule"] == "forced"
    assert intent["detail"]["parameters"]["reason"] == "the estimate is known to be wrong"


async def test_a_load_teaches_what_it_really_took(forge: Forge, sim: Simulator) -> None:
    before = (await forge.post("preflight", wait=None, model=SMALL)).json()
    assert (await forge.load()).status_code == 200
    instance = sim.daemon.instance(SMALL)
    expected = instance.vram_bytes / before["estimate"]["vram_bytes"]
    after = (await forge.post("preflight", wait=None, model=SMALL, instance_id="second")).json()
    assert after["learned"] == {"ratio": pytest.approx(expected), "samples": 1}
    assert after["needed_bytes"] == pytest.approx(instance.vram_bytes, abs=2)
    models = (await forge.http.get(forge.path("models"))).json()["models"]
    shown = {one["model"]: one["learned_ratio"] for one in models}
    assert shown[SMALL] == pytest.approx(expected, abs=1e-4)


async def test_what_was_learned_survives_a_restart(start_forge: StartForge, sim: Simulator) -> None:
    first = await start_forge(sim)
    await first.load()
    first.task.cancel()
    await asyncio.wait({first.task})
    second = await start_forge(sim)
    answer = (await second.post("preflight", wait=None, model=SMALL)).json()
    assert answer["learned"]["samples"] == 1


async def test_of_two_loads_that_fit_one_by_one_the_second_is_refused_when_its_turn_comes(
    forge: Forge, sim: Simulator
) -> None:
    for name in loaded(sim):
        sim.daemon.unload(name)
    sim.clock.speed = 20.0
    model = "mistralai/magistral-small-2509"
    begun = [
        (await forge.load(model, wait=None, instance_id=name, context_length=40_000)).json()
        for name in ("one", "two")
    ]
    ends = [await forge.operation(one["id"]) for one in begun]
    assert [end["state"] for end in ends] == ["done", "failed"]
    assert ends[1]["problem"]["type"] == "urn:daemonpulse:problem:does-not-fit"


async def test_a_model_of_a_link_peer_is_judged_unknown(forge: Forge, sim: Simulator) -> None:
    for name in loaded(sim):
        sim.daemon.unload(name)
    answer = (await forge.post("preflight", wait=None, model="qwen/qwen3-32b")).json()
    assert answer["verdict"] == "unknown"
    assert "studio-mac" in answer["reasons"][0]


async def test_without_nvml_the_verdict_is_unknown_and_the_load_goes_ahead(
    start_forge: StartForge, sim: Simulator
) -> None:
    forge = await start_forge(sim, gpus={"nvidia": NoDriver()})
    answer = (await forge.post("preflight", wait=None, model=SMALL)).json()
    assert answer["verdict"] == "unknown"
    assert "no NVIDIA driver here" in answer["reasons"][0]
    assert (await forge.load()).status_code == 200


class Prometheus:
    """Answers queries the way Prometheus does, on a real port."""

    def __init__(self) -> None:
        self.age_s = 5.0
        self.hosts = 1
        self.gpu = "0"
        self.total = str(24 * GIB)
        self.asked: list[str] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        query = request.query["query"]
        self.asked.append(query)
        values = {
            "timestamp": self.age_s,
            "gpu_memory_total_bytes": self.total,
            "gpu_memory_free_bytes": 2 * GIB,
            "gpu_process_memory_bytes": 22 * GIB,
            "llmster_instance_vram_bytes": 22 * GIB,
        }
        value = next(size for name, size in values.items() if name in query)
        labels = {"gpu": self.gpu, "pid": "77", "process": "llama-server", "instance_id": "qwen/qwen3-8b"}
        result: list[dict[str, Any]] = [
            {"metric": labels | {"instance": f"box-{number}"}, "value": [0, str(value)]}
            for number in range(self.hosts)
        ]
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": result}})


@pytest.fixture
async def prometheus() -> AsyncIterator[Prometheus]:
    double = Prometheus()
    app = web.Application()
    app.router.add_get("/api/v1/query", double.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    double.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield double
    await runner.cleanup()


@pytest.fixture
async def remote() -> AsyncIterator[Simulator]:
    """A daemon under a name that does not count as this host: only who resolves 127.1 learns that it is."""
    async with Simulator(SimConfig(scenario="idle", speed=100.0, host="127.1")) as simulator:
        yield simulator


async def test_a_remote_daemon_without_a_prometheus_is_unknown(
    start_forge: StartForge, remote: Simulator
) -> None:
    forge = await start_forge(remote)
    answer = (await forge.post("preflight", wait=None, model=SMALL)).json()
    assert answer["verdict"] == "unknown"
    assert "prometheus_url" in str(answer["reasons"])


@pytest.mark.parametrize(
    ("age_s", "hosts", "expected", "words"),
    [
        (5, 1, "does_not_fit", "lack"),
        (300, 1, "unknown", "has not seen"),
        (5, 2, "unknown", "prometheus_selector"),
    ],
)
async def test_free_memory_comes_from_prometheus_when_nvml_is_elsewhere(
    *,
    start_forge: StartForge,
    remote: Simulator,
    prometheus: Prometheus,
    age_s: float,
    hosts: int,
    expected: str,
    words: str,
) -> None:
    prometheus.age_s, prometheus.hosts = age_s, hosts
    forge = await start_forge(remote, prometheus_url=prometheus.url, prometheus_selector='job="gpu"')
    answer = (await forge.post("preflight", wait=None, model=SMALL, context_length=40_000)).json()
    assert answer["verdict"] == expected
    assert words in str(answer["reasons"])
    assert all('job="gpu"' in query for query in prometheus.asked)


async def test_a_prometheus_that_is_down_leaves_the_verdict_unknown(
    start_forge: StartForge, remote: Simulator
) -> None:
    forge = await start_forge(remote, prometheus_url="http://127.0.0.1:9")
    answer = (await forge.post("preflight", wait=None, model=SMALL)).json()
    assert answer["verdict"] == "unknown"
    assert "does not answer" in str(answer["reasons"])


@pytest.mark.parametrize(
    ("gpu", "total", "words"),
    [("²", str(24 * GIB), "no index"), ("0", "NaN", "unexpected"), ("0", "+Inf", "unexpected")],
)
async def test_samples_that_are_no_memory_leave_the_verdict_unknown(
    *,
    start_forge: StartForge,
    remote: Simulator,
    prometheus: Prometheus,
    gpu: str,
    total: str,
    words: str,
) -> None:
    prometheus.gpu, prometheus.total = gpu, total
    forge = await start_forge(remote, prometheus_url=prometheus.url)
    answer = (await forge.post("preflight", wait=None, model=SMALL)).json()
    assert answer["verdict"] == "unknown"
    assert words in str(answer["reasons"])
