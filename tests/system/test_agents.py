"""The agent samples, run by their own programs: exporter, agent, remote write, and what the other end stores."""

import asyncio
import dataclasses
import functools
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from daemonpulse.demo.programs import Program, running
from daemonpulse.shipped import generated, stack_folder
from llmster_sim.server import SimConfig, Simulator
from tests.external import FindTool, version_of
from tests.system.conftest import StartExporter, daemon
from tests.system.test_otlp_metrics import Stored, pushed, scraped, stored

SAMPLES = stack_folder() / "agents"
ADDED = frozenset({"job", "instance", "site", "host"})
WHERE = {"job": "daemonpulse", "instance": "box-7:9810", "site": "berlin", "host": "box-7"}

MODES = {"prometheus": ["--enable-feature=agent"], "prometheus-3": ["--agent"]}
"""How each Prometheus becomes an agent."""


@pytest.fixture(params=MODES)
def kind(request: pytest.FixtureRequest, external_tool: FindTool, capsys: pytest.CaptureFixture[str]) -> str:
    """Give each Prometheus that the host has, and say which version it is."""
    version = version_of(external_tool(request.param))
    with capsys.disabled():
        print(f"\n{request.node.name}: {version}")
    return str(request.param)


def sample(name: str, *, exporter: str, receiver: str) -> str:
    """Take a sample with the addresses of this run, and quicker."""
    text = (SAMPLES / name).read_text(encoding="utf-8")
    for old, new in (
        ("127.0.0.1:9810", exporter.removeprefix("http://")),
        ("https://prometheus.example.org", receiver),
        ("interval: 15s", "interval: 1s"),
    ):
        assert old in text
        text = text.replace(old, new)
    return text


def prometheus(name: str, binary: Path, folder: Path, configuration: str, *flags: str) -> Program:
    (folder / f"{name}.yml").write_text(configuration, encoding="utf-8")
    return Program(
        name=name,
        binary=str(binary),
        arguments=lambda port: [
            f"--config.file={folder / name}.yml",
            f"--web.listen-address=127.0.0.1:{port}",
            *flags,
        ],
        ready_path="/-/ready",
    )


def receiver(binary: Path, folder: Path) -> Program:
    flags = (f"--storage.tsdb.path={folder / 'received'}", "--web.enable-remote-write-receiver")
    return prometheus("receiver", binary, folder, "global: {}\n", *flags)


async def until(condition: Callable[[], Any]) -> Any:
    """Wait for what comes by Prometheus' own clock."""
    async with asyncio.timeout(60):
        while not (found := await condition()):  # noqa: ASYNC110 - seen only by asking
            await asyncio.sleep(0.2)
    return found


async def test_an_agent_sends_on_what_a_scrape_shows(
    tmp_path: Path, start_exporter: StartExporter, external_tool: FindTool, kind: str
) -> None:
    binary = external_tool(kind)
    async with (
        running(receiver(binary, tmp_path), log_file=tmp_path / "receiver.log") as url,
        httpx.AsyncClient(trust_env=False) as http,
        Simulator(SimConfig(scenario="steady", manual_clock=True)) as sim,
    ):
        assert url is not None
        exporter = await start_exporter(dataclasses.replace(daemon("box", sim.url), site="berlin"))
        configuration = sample("prometheus-agent.yml", exporter=exporter.url, receiver=url)
        flags = (*MODES[kind], f"--storage.agent.path={tmp_path / 'agent'}")
        agent = prometheus("agent", binary, tmp_path, configuration, *flags)
        async with running(agent, log_file=tmp_path / "agent.log"):
            await exporter.until(lambda seen: seen.value("llmster_log_stream_up") == 1)
            sim.clock.advance(120)
            expected: Stored = {}

            async def same() -> bool:
                nonlocal expected
                before, found = expected, await pushed(http, url, added=ADDED)
                expected = await scraped(exporter)
                return expected == before == found

            await until(same)
            assert sum(expected.values()) > 0
            (up,) = await stored(http, url, "llmster_up")
            assert up["metric"] == {"__name__": "llmster_up", "daemon": "box", **WHERE}
            (site,) = await stored(http, url, "llmster_site_info")
            assert site["metric"]["site"] == "berlin"


async def test_a_prometheus_at_the_edge_sends_on_what_it_recorded_and_little_else(
    tmp_path: Path, start_exporter: StartExporter, external_tool: FindTool, kind: str
) -> None:
    binary = external_tool(kind)
    shutil.copytree(generated() / "rules", tmp_path / "rules")
    async with (
        running(receiver(binary, tmp_path), log_file=tmp_path / "receiver.log") as url,
        httpx.AsyncClient(trust_env=False) as http,
        Simulator(SimConfig(scenario="steady", speed=20.0)) as sim,
    ):
        assert url is not None
        exporter = await start_exporter(dataclasses.replace(daemon("box", sim.url), site="berlin"))
        configuration = sample("prometheus-edge.yml", exporter=exporter.url, receiver=url)
        flags = (f"--storage.tsdb.path={tmp_path / 'edge'}",)
        edge = prometheus("edge", binary, tmp_path, configuration, *flags)
        async with running(edge, log_file=tmp_path / "edge.log"):
            (rate,) = await until(
                lambda: stored(
                    http, url, "sum by (daemon, site, host) (daemon_model:llmster_requests:rate5m)"
                )
            )
            assert rate["metric"] == {"daemon": "box", "site": "berlin", "host": "box-7"}
            for name in ("llmster_up", "llmster_build_info", "llmster_site_info", "llmster_instance_info"):
                assert await until(functools.partial(stored, http, url, name)), name
            names = {
                one["metric"]["__name__"]
                for one in await stored(http, url, "count by (__name__) ({host!=''})")
            }
            assert not [name for name in names if re.search("_(bucket|sum|count|total)$|^site", name)]


@pytest.mark.external("promtool")
@pytest.mark.parametrize(
    ("name", "flags"), [("prometheus-agent.yml", ["--agent"]), ("prometheus-edge.yml", [])]
)
def test_promtool_accepts_the_sample(
    external_tool: FindTool, tmp_path: Path, name: str, flags: list[str]
) -> None:
    shutil.copytree(generated() / "rules", tmp_path / "rules")
    shutil.copy(SAMPLES / name, tmp_path)
    ran = subprocess.run(
        [external_tool("promtool"), "check", "config", *flags, tmp_path / name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.external("alloysyntax")
def test_alloys_own_parser_reads_the_sample_and_refuses_one_that_is_cut_off(
    external_tool: FindTool, tmp_path: Path
) -> None:
    def blocks(path: Path) -> subprocess.CompletedProcess[str]:
        parser = external_tool("alloysyntax")
        return subprocess.run([parser, path], capture_output=True, text=True, check=False)

    read = blocks(SAMPLES / "config.alloy")
    assert (read.returncode, read.stderr) == (0, "")
    assert read.stdout.splitlines() == ["prometheus.scrape daemonpulse", "prometheus.remote_write fleet"]
    cut_off = tmp_path / "config.alloy"
    cut_off.write_text((SAMPLES / "config.alloy").read_text(encoding="utf-8").rstrip().removesuffix("}"))
    assert blocks(cut_off).returncode == 1


def test_every_scraping_sample_asks_the_same_targets_under_the_same_labels() -> None:
    def scrapes(name: str) -> Any:
        data = yaml.safe_load((SAMPLES / name).read_text(encoding="utf-8"))
        prometheus_ = data if "scrape_configs" in data else data["receivers"]["prometheus"]["config"]
        (job,) = prometheus_["scrape_configs"]
        return job["job_name"], [
            (one["targets"], sorted(one["labels"]), one["labels"]["instance"].rpartition(":")[2])
            for one in job["static_configs"]
        ]

    first, *others = (
        scrapes(name)
        for name in ("prometheus-agent.yml", "prometheus-edge.yml", "vmagent.yml", "otelcol-scrape.yaml")
    )
    assert first == (
        "daemonpulse",
        [(["127.0.0.1:9810"], ["instance"], "9810"), (["127.0.0.1:9811"], ["instance"], "9811")],
    )
    assert others == [first] * 3


def test_both_collectors_send_to_the_same_receiver_under_the_same_labels() -> None:
    scraping, pushed_to = (
        yaml.safe_load((SAMPLES / name).read_text(encoding="utf-8"))
        for name in ("otelcol-scrape.yaml", "otelcol-otlp.yaml")
    )
    assert scraping["exporters"] == pushed_to["exporters"]
    assert pushed_to["receivers"] == {"otlp": {"protocols": {"http": {"endpoint": "127.0.0.1:4318"}}}}
    for one in (scraping, pushed_to):
        (pipeline,) = one["service"]["pipelines"].values()
        assert [*pipeline["receivers"], *pipeline["processors"], *pipeline["exporters"]] == [
            *one["receivers"],
            *one["processors"],
            *one["exporters"],
        ]
