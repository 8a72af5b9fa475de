"""`daemonpulse demo`: a simulated daemon, the exporter and, if it is installed, a real Prometheus, in one command.

Knows how the parts meet. Simulator and exporter share this process but not a line of code: they meet on a socket,
as they would on two machines.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import click
import httpx
from prometheus_client.parser import text_string_to_metric_families

from daemonpulse.demo_actions import start_actions
from daemonpulse.programs import Program, ProgramFailed, free_port, running, stack_folder
from daemonpulse.pulse import Pulse
from daemonpulse.simulated_machine import SimulatedGpus, SimulatedHost
from exporter import app, logs
from exporter.catalogue import daemon as state_metrics
from exporter.settings import DaemonSettings, ExporterSettings
from llmster_sim.scenarios import SCENARIOS
from llmster_sim.server import SimConfig, Simulator

PULSE_EVERY_S: Final = 1.0
FIRST_SCRAPE_S: Final = 15.0
DAEMON_NAME: Final = "demo"


def run(*, scenario: str, seed: int, seconds: float | None, urls_file: Path | None) -> int:
    """Run the demo; return the exit code: 0 fine, 1 something was not as promised, 2 asked wrongly."""
    if scenario not in SCENARIOS:
        click.echo(f"daemonpulse: --scenario={scenario}: choose one of {', '.join(SCENARIOS)}", err=True)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="daemonpulse-demo-"))
    try:
        return asyncio.run(_Demo(folder, scenario, seed, urls_file).run(seconds))
    except ProgramFailed as error:
        click.echo(f"daemonpulse: {error}", err=True)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Demo:
    """One run of the demo in a folder of its own."""

    def __init__(self, folder: Path, scenario: str, seed: int, urls_file: Path | None) -> None:
        self._folder = folder
        self._urls_file = urls_file
        self._home = folder / "lmstudio-home"
        self._home.mkdir()
        self._sim = SimConfig(
            seed=seed, scenario=scenario, home=self._home, start_ms=round(time.time() * 1000)
        )
        self._urls: dict[str, str] = {}
        self._notes: list[str] = []

    async def run(self, seconds: float | None) -> int:
        with (self._folder / "log").open("w", encoding="utf-8") as log_stream:
            handler = logging.StreamHandler(log_stream)
            handler.setFormatter(logs.LogfmtFormatter())
            logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
            async with contextlib.AsyncExitStack() as stack:
                simulator = await stack.enter_async_context(Simulator(self._sim))
                self._urls["llmster"] = simulator.url
                exporter = await self._start_exporter(stack, simulator)
                self._urls["actions"], token_file = await start_actions(stack, simulator, self._folder)
                self._notes.append(
                    "to load and eject: daemonpulse actions load qwen/qwen3-0.6b "
                    f"--url {self._urls['actions']} --token-file {token_file}"
                )
                prometheus = await stack.enter_async_context(
                    running(self._prometheus(), log_file=self._folder / "prometheus.log")
                )
                if prometheus is not None:
                    self._urls["prometheus"] = prometheus
                else:
                    self._notes.append(
                        "prometheus is not on PATH; with it (apt install prometheus) you could query and graph all this"
                    )
                self._announce()
                await self._pulse(exporter, seconds)
                if seconds is None:
                    return 0
                return await self._verify()

    async def _start_exporter(
        self, stack: contextlib.AsyncExitStack, simulator: Simulator
    ) -> asyncio.Task[None]:
        port = free_port()
        settings = ExporterSettings(
            listen_host="127.0.0.1",
            listen_port=port,
            web_config=None,
            max_age_s=1.0,
            log_level="info",
            log_format="logfmt",
            log_stream=True,
            capture="off",
            reasoning_tags=(),
            daemons=(DaemonSettings(name=DAEMON_NAME, url=simulator.url, token=None, home=self._home),),
        )
        ready = asyncio.Event()
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(
            app.serve(
                settings,
                ready=lambda _url: ready.set(),
                gpus=SimulatedGpus(simulator.daemon, loop),
                host=SimulatedHost(simulator.daemon, loop),
            )
        )
        stack.push_async_callback(_end, task)
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            task.result()
        self._urls["exporter"] = f"http://127.0.0.1:{port}"
        return task

    def _prometheus(self) -> Program:
        """Prometheus with the very file of the stack; only its target list is ours, because ports are free ones."""
        folder = self._folder / "prometheus"
        shutil.copytree(stack_folder() / "prometheus", folder)
        target = self._urls["exporter"].removeprefix("http://")
        (folder / "targets" / "exporter.json").write_text(json.dumps([{"targets": [target]}]))
        return Program(
            name="prometheus",
            binary="prometheus",
            arguments=lambda port: [
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            ready_path="/-/ready",
        )

    def _announce(self) -> None:
        rows = [
            ("llmster", self._urls["llmster"], "the simulated daemon: WebSockets and REST, as LM Studio's"),
            ("exporter", self._urls["exporter"], "what DaemonPulse says about it; /metrics for Prometheus"),
        ]
        rows.append(("actions", self._urls["actions"], "load, eject and pre-flight; /docs says how"))
        if "prometheus" in self._urls:
            rows.append(
                ("prometheus", self._urls["prometheus"], "a real Prometheus that scrapes the exporter")
            )
        click.echo(f"DaemonPulse demo, scenario {self._sim.scenario}, seed {self._sim.seed}\n")
        width = max(len(url) for _, url, _ in rows)
        for name, url, what in rows:
            click.echo(f"  {name:<11} {url:<{width}}  {what}")
        for note in self._notes:
            click.echo(f"  note: {note}")
        click.echo("\nCtrl-C stops everything.\n" if sys.stdout.isatty() else "")
        if self._urls_file is not None:
            temporary = self._urls_file.with_name(self._urls_file.name + ".new")
            temporary.write_text(json.dumps(self._urls, indent=2) + "\n")
            temporary.replace(self._urls_file)

    async def _pulse(self, exporter: asyncio.Task[None], seconds: float | None) -> None:
        """Show one line of life, until time is up, Ctrl-C, or the exporter ends."""
        deadline = None if seconds is None else time.monotonic() + seconds
        line, pulse = "", Pulse()
        async with httpx.AsyncClient(trust_env=False) as http:
            while not exporter.done() and (deadline is None or time.monotonic() < deadline):
                try:
                    line = pulse.line(await _samples(http, self._urls["exporter"]), now_s=time.monotonic())
                except httpx.TransportError:
                    break  # a signal ended the exporter between two looks
                if sys.stdout.isatty():
                    columns = shutil.get_terminal_size().columns
                    click.echo(f"\r{line[: columns - 1]:<{columns - 1}}", nl=False)
                left_s = (
                    PULSE_EVERY_S if deadline is None else min(PULSE_EVERY_S, deadline - time.monotonic())
                )
                await asyncio.wait({exporter}, timeout=max(0.0, left_s))
            click.echo(("\n" if sys.stdout.isatty() else "") + line)

    async def _verify(self) -> int:
        """Check what the demo promises, on what a scraper and Prometheus see."""
        problems: list[str] = []
        async with httpx.AsyncClient(trust_env=False) as http:
            seen = {name for name, _, _ in await _samples(http, self._urls["exporter"])}
            missing = [row.name for row in state_metrics.ROWS if row.name not in seen]
            if missing:
                problems.append(f"state metrics that were not served: {', '.join(missing)}")
            if "prometheus" in self._urls:
                problems += await _stored_problems(http, self._urls["prometheus"])
        for problem in problems:
            click.echo(f"daemonpulse: {problem}", err=True)
        if not problems:
            click.echo(f"all {len(state_metrics.ROWS)} state metrics served" + self._stored_words())
        return 1 if problems else 0

    def _stored_words(self) -> str:
        return (
            ", and stored by Prometheus" if "prometheus" in self._urls else "; not stored: no Prometheus here"
        )


async def _stored_problems(http: httpx.AsyncClient, url: str) -> list[str]:
    """Give a Prometheus that started a moment ago the time for its first scrape before finding fault."""
    problems: list[str] = []
    for _ in range(round(FIRST_SCRAPE_S / PULSE_EVERY_S)):
        problems = await _prometheus_problems(http, url)
        if not problems:
            break
        await asyncio.sleep(PULSE_EVERY_S)
    return problems


async def _prometheus_problems(http: httpx.AsyncClient, url: str) -> list[str]:
    targets = (await http.get(f"{url}/api/v1/targets")).json()["data"]["activeTargets"]
    problems = [
        f"Prometheus' target {target['scrapeUrl']} is {target['health']}: {target['lastError'] or 'never scraped'}"
        for target in targets
        if target["health"] != "up"
    ]
    if not targets:
        problems.append("Prometheus has no target")
    for row in state_metrics.ROWS:
        answer = (await http.get(f"{url}/api/v1/query", params={"query": row.name})).json()
        if not answer["data"]["result"]:
            problems.append(f"Prometheus has not stored {row.name}")
    return problems


_Sample = tuple[str, dict[str, str], float]


async def _samples(http: httpx.AsyncClient, exporter_url: str) -> list[_Sample]:
    text = (await http.get(f"{exporter_url}/metrics")).text
    return [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
