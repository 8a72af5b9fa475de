"""A real Prometheus with the shipped configuration scrapes the exporter over the simulator."""

import asyncio
import json
import shutil
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from daemonpulse.demo.programs import Program, running, stack_folder
from daemonpulse.demo.stack import generated
from exporter.catalogue import daemon as state_metrics
from exporter.llmster.load_config import AUTO_FIT, OFFLOAD_RATIO
from llmster_sim.server import SimConfig, Simulator
from tests.otlp_sink import otlp_sink
from tests.system.conftest import StartExporter, daemon


async def query(http: httpx.AsyncClient, url: str, expression: str) -> list[dict[str, Any]]:
    answer = (await http.get(f"{url}/api/v1/query", params={"query": expression})).json()
    assert answer["status"] == "success", answer
    return list(answer["data"]["result"])


@pytest.mark.external("prometheus")
async def test_prometheus_stores_every_state_metric_and_sees_the_daemon_come_and_go(
    tmp_path: Path, start_exporter: StartExporter
) -> None:
    folder = tmp_path / "prometheus"
    shutil.copytree(stack_folder() / "prometheus", folder)
    shutil.copytree(generated() / "rules", tmp_path / "prometheus-rules")
    configuration = (folder / "prometheus.yml").read_text(encoding="utf-8")
    (folder / "prometheus.yml").write_text(configuration.replace("5s", "1s"), encoding="utf-8")
    program = Program(
        name="prometheus",
        binary="prometheus",
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
        exporter = await start_exporter(daemon("box", sim.url, home=home))
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


@pytest.mark.external("prometheus")
async def test_prometheus_stores_exemplars_that_name_the_trace_of_a_prediction(
    tmp_path: Path, start_exporter: StartExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = tmp_path / "prometheus.yml"
    program = Program(
        name="prometheus",
        binary="prometheus",
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
