"""A real Prometheus, Debian's and a 3, scrapes exporter and actions API over the simulator."""

import asyncio
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from daemonpulse.demo.programs import Program, running
from daemonpulse.shipped import generated, stack_folder
from exporter.catalogue import actions as actions_metrics
from exporter.catalogue import daemon as state_metrics
from exporter.catalogue.metric import Kind
from exporter.llmster.load_config import AUTO_FIT, OFFLOAD_RATIO
from llmster_sim.server import SimConfig, Simulator
from tests.actions.conftest import forges
from tests.external import FindTool, version_of
from tests.otlp_sink import otlp_sink
from tests.system.conftest import StartExporter, daemon


async def query(http: httpx.AsyncClient, url: str, expression: str) -> list[dict[str, Any]]:
    answer = (await http.get(f"{url}/api/v1/query", params={"query": expression})).json()
    assert answer["status"] == "success", answer
    return list(answer["data"]["result"])


@pytest.fixture(params=["prometheus", "prometheus-3"])
def prometheus(
    request: pytest.FixtureRequest,
    external_tool: FindTool,
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> str:
    """Give each Prometheus that the host has, and say which version it is."""
    binary = external_tool(request.param)
    version = version_of(binary)
    record_property("prometheus", version)
    with capsys.disabled():
        print(f"\n{request.node.name}: {version}")
    return str(binary)


async def test_prometheus_stores_every_state_metric_and_sees_the_daemon_come_and_go(
    tmp_path: Path, start_exporter: StartExporter, prometheus: str
) -> None:
    folder = tmp_path / "prometheus"
    shutil.copytree(stack_folder() / "prometheus", folder)
    shutil.copytree(generated() / "rules", tmp_path / "prometheus-rules")
    configuration = (folder / "prometheus.yml").read_text(encoding="utf-8")
    (folder / "prometheus.yml").write_text(configuration.replace("5s", "1s"), encoding="utf-8")
    program = Program(
        name="prometheus",
        binary=prometheus,
        arguments=lambda port: [
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        ready_path="/-/ready",
    )
    home = tmp_path / "home"
    home.mkdir()
    async with Simulator(SimConfig(scenario="idle", home=home)) as sim:
        # The only instance with a GPU offload to tell: autoFit decides it for the others.
        by_hand = {AUTO_FIT["gguf"]: False, OFFLOAD_RATIO: 0.5}
        sim.daemon.load("qwen/qwen3-0.6b", overrides=by_hand, instant=True)
        exporter = await start_exporter(daemon("box", sim.url, home=home, site="attic"))
        target = exporter.url.removeprefix("http://")
        (folder / "targets" / "exporter.json").write_text(json.dumps([{"targets": [target]}]))
        async with (
            running(program, log_file=tmp_path / "log") as url,
            httpx.AsyncClient(trust_env=False) as http,
        ):
            assert url is not None
            async with asyncio.timeout(20):
                while not await query(http, url, 'llmster_up{daemon="box"} == 1'):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)  # Prometheus scrapes by its own clock
            missing = [row.name for row in state_metrics.ROWS if not await query(http, url, row.name)]
            assert not missing
            targets = (await http.get(f"{url}/api/v1/targets")).json()["data"]["activeTargets"]
            assert [(target["health"], target["lastError"]) for target in targets] == [("up", "")]
            await sim.stop()
            async with asyncio.timeout(20):
                while not await query(http, url, 'llmster_daemon_state{state="down"} == 1'):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            assert await query(http, url, 'up{job="daemonpulse"} == 1'), "the exporter itself stays up"
            assert not await query(http, url, "llmster_instance_info"), (
                "state that cannot be read is gone, not stale"
            )


async def test_prometheus_takes_what_the_actions_api_serves(tmp_path: Path, prometheus: str) -> None:
    program = Program(
        name="prometheus",
        binary=prometheus,
        arguments=lambda port: [
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        ready_path="/-/ready",
    )
    async with Simulator(SimConfig(scenario="idle", speed=100.0)) as sim, forges(tmp_path) as start:
        forge = await start(sim)
        assert (await forge.load()).status_code == 200
        (tmp_path / "token").write_text(await forge.token("read"))
        (tmp_path / "prometheus.yml").write_text(
            "scrape_configs: [{job_name: actions, scrape_interval: 1s, authorization: {credentials_file: token}, "
            f"static_configs: [{{targets: ['{forge.url.removeprefix('http://')}']}}]}}]"
        )
        async with (
            running(program, log_file=tmp_path / "log") as url,
            httpx.AsyncClient(trust_env=False) as http,
        ):
            assert url is not None
            done = 'daemonpulse_actions_total{action="load",outcome="done"} == 1'
            async with asyncio.timeout(20):
                while not await query(http, url, done):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)  # Prometheus scrapes by its own clock
            targets = (await http.get(f"{url}/api/v1/targets")).json()["data"]["activeTargets"]
            assert [(target["health"], target["lastError"]) for target in targets] == [("up", "")]
            names = {row.name for row in actions_metrics.ROWS if row.kind is not Kind.HISTOGRAM}
            served = {
                line.partition("{")[0].partition(" ")[0]
                for line in (await forge.http.get("/metrics")).text.splitlines()
            }
            missing = [name for name in names & served if not await query(http, url, name)]
            assert not missing


async def test_prometheus_stores_exemplars_that_name_the_trace_of_a_prediction(
    tmp_path: Path, start_exporter: StartExporter, monkeypatch: pytest.MonkeyPatch, prometheus: str
) -> None:
    configuration = tmp_path / "prometheus.yml"
    program = Program(
        name="prometheus",
        binary=prometheus,
        arguments=lambda port: [
            f"--config.file={configuration}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
        ],
        ready_path="/-/ready",
    )
    with otlp_sink() as received:
        for name, value in received.environment().items():
            monkeypatch.setenv(name, value)
        async with Simulator(SimConfig(scenario="agent", manual_clock=True)) as sim:
            exporter = await start_exporter(daemon("box", sim.url))
            await exporter.until(lambda scraped: scraped.value("llmster_log_stream_up") == 1)
            target = exporter.url.removeprefix("http://")
            configuration.write_text(
                "scrape_configs: [{job_name: daemonpulse, scrape_interval: 1s, "
                f"static_configs: [{{targets: ['{target}']}}]}}]"
            )
            async with (
                running(program, log_file=tmp_path / "log") as url,
                httpx.AsyncClient(trust_env=False) as http,
            ):
                assert url is not None
                # Predictions go on between scrapes: an exemplar is stored when it is newer than the one before.
                async with asyncio.timeout(30):
                    while not (
                        found := await exemplars(http, url, "llmster_e2e_request_latency_seconds_bucket")
                    ):
                        sim.clock.advance(5)
                        await asyncio.sleep(0.1)
            named = {exemplar["labels"]["trace_id"] for exemplar in found}
            await exporter.until(lambda _: named <= {span.trace_id.hex() for span in received.spans})


async def exemplars(http: httpx.AsyncClient, url: str, query_: str) -> list[dict[str, Any]]:
    answer = await http.get(
        f"{url}/api/v1/query_exemplars",
        params={"query": query_, "start": time.time() - 600, "end": time.time() + 60},
    )
    return [exemplar for series in answer.json()["data"] for exemplar in series["exemplars"]]
