"""The stack as one thing: an alert reaches people, a button reaches the daemon, and both are seen by Prometheus."""

import asyncio
import json
import queue
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from daemonpulse.demo import stack
from daemonpulse.demo.alert_sink import Alert, alert_sink
from daemonpulse.demo.programs import running
from llmster_sim.server import SimConfig, Simulator
from tests.daemonpulse.test_cli import COMMAND, daemonpulse, started
from tests.system.conftest import daemon
from tests.system.conftest import start_exporter as start_exporter  # noqa: PLC0414 - a fixture is found by its name

STUCK_FOR_S = 400
STAND_IN = Path(__file__).parents[1] / "stand_in.py"


def quicken(file: Path, **replacements: str) -> None:
    """Shorten durations in a test's own copy: `old` seconds become `new` ones, each found at least once."""
    text = file.read_text(encoding="utf-8")
    for key, new in replacements.items():
        text, found = re.subn(rf"\b{key}: \S+", f"{key}: {new}", text)
        assert found, f"{file.name} has no {key}"
    file.write_text(text, encoding="utf-8")


@pytest.mark.external("prometheus", "prometheus-alertmanager")
async def test_a_generation_that_is_stuck_wakes_somebody(tmp_path: Path, start_exporter: Any) -> None:
    told: queue.Queue[Alert] = queue.Queue()
    started_ms = round((time.time() - STUCK_FOR_S) * 1000)
    config = SimConfig(scenario="stuck", manual_clock=True, start_ms=started_ms)
    async with Simulator(config) as sim, httpx.AsyncClient(trust_env=False) as http:
        exporter = await start_exporter(daemon("box", sim.url))
        await exporter.until(lambda scraped: scraped.value("llmster_log_stream_up") == 1)
        for _ in range(STUCK_FOR_S // 5):
            sim.clock.advance(5)
            await asyncio.sleep(0)
        with alert_sink(told.put) as webhook:
            manager = stack.alertmanager(tmp_path, webhook=webhook)
            quicken(tmp_path / "alertmanager" / "alertmanager.yml", group_wait="100ms")
            async with running(manager, log_file=tmp_path / "alertmanager.log") as manager_url:
                prometheus = stack.prometheus(tmp_path, targets=[exporter.url], alertmanager=manager_url)
                folder = tmp_path / "prometheus"
                quicken(folder / "prometheus.yml", scrape_interval="1s", scrape_timeout="1s")
                quicken(folder / "prometheus.yml", evaluation_interval="1s")
                quicken(tmp_path / "prometheus-rules" / "daemonpulse-alerts.yaml", **{"for": "1s"})
                async with running(prometheus, log_file=tmp_path / "prometheus.log") as url:
                    firing = await asyncio.to_thread(_heard, told, "LlmsterGenerationStuck")
                    rules = (await http.get(f"{url}/api/v1/rules", params={"type": "alert"})).json()
    assert (firing.status, firing.labels["daemon"]) == ("firing", "box")
    assert firing.labels["instance_id"] == "qwen/qwen3-8b"
    assert "no progress for" in firing.summary
    stuck = [
        alert["labels"]["instance_id"]
        for group in rules["data"]["groups"]
        for rule in group["rules"]
        if rule["name"] == "LlmsterGenerationStuck"
        for alert in rule["alerts"]
    ]
    assert stuck == ["qwen/qwen3-8b"], "those that still generate are left alone"


def _heard(told: queue.Queue[Alert], name: str) -> Alert:
    deadline = time.monotonic() + 30
    while (alert := told.get(timeout=deadline - time.monotonic())).name != name:
        pass
    return alert


@contextmanager
def running_demo(folder: Path, *flags: str) -> Iterator[tuple[dict[str, str], str]]:
    """Run the demo; gives its URLs and the token of its actions API. It ends by itself, with what it started."""
    urls_file = folder / "urls.json"
    with started(COMMAND, "demo", "--urls-file", str(urls_file), *flags) as process:
        assert process.stdout is not None
        deadline = time.monotonic() + 60
        while not urls_file.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)  # another process writes the file
        token_file = next(line for line in process.stdout if "--token-file" in line).split()[-1]
        try:
            yield json.loads(urls_file.read_text()), Path(token_file).read_text().strip()
        finally:
            process.terminate()
            process.communicate(timeout=20)


@pytest.mark.external("prometheus", "prometheus-alertmanager")
def test_a_button_press_changes_what_prometheus_stores(tmp_path: Path) -> None:
    with (
        running_demo(tmp_path, "--scenario", "idle") as (urls, token),
        httpx.Client(trust_env=False, timeout=30, headers={"Authorization": f"Bearer {token}"}) as http,
    ):
        assert {"alertmanager", "prometheus", "actions", "exporter", "llmster"} <= urls.keys()
        models = f"{urls['actions']}/v1/daemons/demo/models"

        pressed = http.post(f"{models}/load", params={"model": "qwen/qwen3-0.6b", "wait": "20"})
        assert pressed.status_code == 200, pressed.text
        _until(http, urls, 'llmster_instance_info{model="qwen/qwen3-0.6b"}', there=True)

        pressed = http.post(f"{models}/eject-all", params={"wait": "20"})
        assert pressed.status_code == 200, pressed.text
        _until(http, urls, "llmster_instance_info", there=False)
        _until(http, urls, 'daemonpulse_actions_total{action="load",outcome="done"} == 1', there=True)


def _until(http: httpx.Client, urls: dict[str, str], query: str, *, there: bool) -> None:
    deadline = time.monotonic() + 20
    while True:
        answer = http.get(f"{urls['prometheus']}/api/v1/query", params={"query": query}).json()
        if bool(answer["data"]["result"]) == there:
            return
        assert time.monotonic() < deadline, f"{query} is {'not ' if there else ''}stored"
        time.sleep(0.2)  # Prometheus scrapes by its own clock


def test_the_demo_sends_traces_logs_and_its_addresses_to_what_else_is_installed(tmp_path: Path) -> None:
    programs, notes = tmp_path / "bin", tmp_path / "notes"
    programs.mkdir()
    notes.mkdir()
    for name in ("tempo", "loki", "grafana"):
        (programs / name).write_text(f"#!{sys.executable}\n" + STAND_IN.read_text(encoding="utf-8"))
        (programs / name).chmod(0o755)
    urls_file = tmp_path / "urls.json"
    path = f"{programs}:{Path(COMMAND).parent}"  # no Prometheus: it has tests of its own
    ended = daemonpulse(
        "demo", "--seconds", "6", "--urls-file", str(urls_file), PATH=path, STAND_IN_NOTES=str(notes)
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "prometheus is not on PATH" in ended.stdout
    urls = json.loads(urls_file.read_text())
    assert {"tempo", "loki", "grafana"} <= urls.keys()
    assert posted(notes / "tempo.posts") == {"/v1/traces"}
    assert posted(notes / "loki.posts") == {"/otlp/v1/logs"}
    told = json.loads((notes / "grafana.json").read_text())["environment"]
    for name in ("tempo", "loki", "actions"):
        assert told[f"{name.upper()}_URL"] == urls[name]
    assert told["PROMETHEUS_URL"] == ""
    for name in ("tempo", "loki", "grafana"):
        folder = json.loads((notes / f"{name}.json").read_text())["folder"]
        assert Path(folder).name.startswith("daemonpulse-demo-"), "what it leaves there goes with the demo"


def posted(file: Path) -> set[str]:
    """The paths that something was sent to."""
    lines = [line.split() for line in file.read_text().splitlines()]
    assert all(int(size) > 0 for _, size in lines)
    return {path for path, _ in lines}


def test_links_to_runbooks_lead_to_the_grafana_of_the_demo(tmp_path: Path) -> None:
    stack.prometheus(tmp_path, targets=[], alertmanager=None, grafana="http://localhost:41234")
    rules = (tmp_path / "prometheus-rules" / "daemonpulse-alerts.yaml").read_text(encoding="utf-8")
    assert "runbook_url: http://localhost:41234/d/LlmsterDaemonDown\n" in rules
    assert "localhost:3000" not in rules
