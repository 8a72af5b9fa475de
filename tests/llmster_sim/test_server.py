import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmster_sim.engine.daemon import Settings
from llmster_sim.server import SimConfig, Simulator
from tests.llmster_sim.client import Client


async def test_restart_keeps_the_port_and_forgets_the_instances(sim: Simulator) -> None:
    port, pid = sim.port, sim.daemon.pid
    before, after = Client(url=sim.url, path="/system"), Client(url=sim.url, path="/system")
    await before.open()
    await sim.restart(version="0.4.25", pid=4711)
    assert await before.close_code() == 1006
    await after.open()
    assert sim.port == port
    assert (await after.call("info"))["result"] == {"pid": 4711, "isDaemon": True, "version": "0.4.25+1"}
    assert sim.daemon.instances == []
    assert pid != 4711
    await after.close()


async def test_stopped_simulator_refuses_connections_and_starts_on_the_same_port(sim: Simulator) -> None:
    await sim.stop()
    async with httpx.AsyncClient(base_url=sim.url) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get("/lmstudio-greeting")
        await sim.start()
        assert (await http.get("/lmstudio-greeting")).json() == {"lmstudio": True}
    assert len(sim.daemon.loaded) == 3


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.2", "http://127.0.0.2:1234"),
        ("0.0.0.0", "http://127.0.0.1:1234"),  # noqa: S104
        ("::1", "http://[::1]:1234"),
        ("::", "http://[::1]:1234"),
    ],
)
def test_its_url_is_one_that_this_host_can_use(host: str, url: str) -> None:
    assert Simulator(SimConfig(host=host, port=1234)).url == url


async def test_stopping_does_not_stop_the_clients_predictions_for_them(sim: Simulator) -> None:
    client = Client(url=sim.url, path="/llm")
    await client.open()
    await client.channel(
        "predict",
        modelSpecifier={"type": "query", "query": {"identifier": "qwen/qwen3-8b"}},
        history={"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
        predictionConfigStack={"layers": []},
    )
    await sim.restart()
    assert sim.daemon.totals.predictions == 0
    await client.close()


async def test_shutdown_request_is_answered_and_obeyed(sim: Simulator) -> None:
    client = Client(url=sim.url, path="/system")
    await client.open()
    await client.begin("requestShutdown")
    await sim.stopped.wait()
    assert await client.close_code() == 1006


async def test_port_in_use_is_an_os_error(sim: Simulator) -> None:
    with pytest.raises(OSError, match="address already in use"):
        await Simulator(SimConfig(scenario="idle", manual_clock=True, port=sim.port)).start()


async def test_hundred_idle_simulators_run_in_one_process() -> None:
    async with AsyncExitStack() as stack:
        sims = [
            await stack.enter_async_context(Simulator(SimConfig(scenario="idle", seed=n))) for n in range(100)
        ]
        assert len({sim.port for sim in sims}) == 100
        async with httpx.AsyncClient() as http:
            answers = await asyncio.gather(*(http.get(f"{sim.url}/lmstudio-greeting") for sim in sims))
        assert all(answer.json() == {"lmstudio": True} for answer in answers)


async def test_live_simulator_plays_on_its_own() -> None:
    async with Simulator(SimConfig(scenario="steady", speed=500.0)) as sim:
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        sim.daemon.watch(
            lambda e: (
                None
                if first.done() or e["data"]["type"] != "llm.prediction.output"
                else first.set_result(None)
            )
        )
        await first
        assert sim.daemon.totals.predictions > 0


async def test_live_clock_gives_exact_durations_too() -> None:
    async with Simulator(SimConfig(scenario="idle", speed=200.0)) as sim, httpx.AsyncClient() as http:
        body = {"model": "qwen/qwen3-8b", "input": "hi", "max_output_tokens": 20}
        answer = (await http.post(f"{sim.url}/api/v1/chat", json=body)).json()
        assert answer["stats"]["tokens_per_second"] == pytest.approx(96.0)


async def test_home_holds_what_a_daemon_keeps_there(tmp_path: Path) -> None:
    settings = Settings(jit_evicts=True, guardrail="high", jit_ttl_s=120)
    config = SimConfig(scenario="idle", manual_clock=True, home=tmp_path, settings=settings)
    async with Simulator(config) as sim:
        port = sim.port
    kept = _files(tmp_path)
    assert kept[".internal/http-server.json"] == {"port": port}
    server = kept[".internal/http-server-config.json"]
    assert (server["port"], server["networkInterface"], server["cors"]) == (port, "127.0.0.1", False)
    assert kept["settings.json"]["modelLoadingGuardrails"]["mode"] == "high"
    assert kept["settings.json"]["developer"] == {
        "unloadPreviousJITModelOnLoad": True,
        "jitModelTTL": {"enabled": True, "ttlSeconds": 120},
    }
    assert sum(name.startswith(".internal/api-prediction-history/") for name in kept) == 3
    assert not any(name.endswith(".partial") for name in kept)


def _files(home: Path) -> dict[str, Any]:
    return {str(p.relative_to(home)): json.loads(p.read_text()) for p in home.rglob("*") if p.is_file()}


@pytest.mark.parametrize(("count", "shown"), [(2, 2), (9, 9), (12, 12)])
async def test_number_of_models_can_be_chosen(count: int, shown: int) -> None:
    async with Simulator(SimConfig(scenario="idle", manual_clock=True, models=count)) as sim:
        async with httpx.AsyncClient(base_url=sim.url) as http:
            models = (await http.get("/api/v1/models")).json()["models"]
        assert len({model["key"] for model in models}) == shown


async def test_a_daemon_that_a_scenario_restarts_is_down_and_comes_back_as_another_process() -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        pid, port = sim.daemon.pid, sim.port
        sim.faults.restart(0.3)
        await asyncio.wait_for(sim.stopped.wait(), 10)
        with pytest.raises(OSError, match=str(port)):
            await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(10):
            while sim.stopped.is_set():  # noqa: ASYNC110 - it tells of its end, not of its start
                await asyncio.sleep(0.05)
        assert sim.daemon.pid != pid
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
