"""`daemonpulse demo`: a simulated daemon, exporter, actions API, and what of the stack is installed, in one command.

Simulator and exporter share this process but no code: they are connected by a socket, as on two hosts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import httpx
from prometheus_client.parser import text_string_to_metric_families

from daemonpulse.demo import stack as programs
from daemonpulse.demo.actions import DAEMON_NAME, end, start_actions
from daemonpulse.demo.alert_sink import Alert, alert_sink
from daemonpulse.demo.clients import ask_for_ever
from daemonpulse.demo.leftovers import Leftovers, leftovers
from daemonpulse.demo.programs import Program, ProgramFailed, free_port, running
from daemonpulse.demo.screen import DemoScreen, is_possible
from daemonpulse.demo.simulated_host import SimulatedHost, simulated_gpus
from daemonpulse.demo.status_line import Pulse
from daemonpulse.demo.tap import start_tap
from exporter import app
from exporter.catalogue import daemon as state_metrics
from exporter.settings import DaemonSettings, ExporterSettings
from exporter.shared import logs
from exporter.shared.live_token import LiveToken
from exporter.shared.settings_table import SettingsError
from exporter.shared.terminal import fail, say
from llmster_sim.engine.daemon import Settings
from llmster_sim.server import SimConfig, Simulator
from llmster_sim.traffic.scenarios import SCENARIOS

PULSE_EVERY_S: Final = 1.0
ANSWER_S: Final = 30.0
"""An answer may take so long: everything runs on one host, which may be busy."""
_PROMISED: Final = tuple(
    row for row in state_metrics.ROWS if row not in {state_metrics.GPU_OFFLOAD, state_metrics.SITE_INFO}
)
"""State metrics the demo must serve. The loads of its daemon leave the GPU offload to autoFit, so it has no ratio; its
daemon belongs to no site."""
FIRST_SCRAPE_S: Final = 15.0

_PARTS: Final = {
    "llmster": "the simulated daemon: WebSockets and REST, as LM Studio's",
    "tap": "the same daemon through the tap: OPENAI_BASE_URL is this and /v1",
    "exporter": "what DaemonPulse says about it; /metrics for Prometheus",
    "actions": "load, eject, pre-flight and the MCP gate; /docs says how",
    "prometheus": "a real Prometheus that scrapes the exporter and the actions API",
    "alertmanager": "takes Prometheus' alerts and tells this terminal",
    "tempo": "keeps each request as a trace",
    "loki": "keeps the daemon's log",
    "grafana": "the boards; user admin, password admin",
}

_LINKS: Final = {
    "exporter": (("/live", "requests while they run"),),
    "actions": (("/docs", "every route of the API"),),
    "prometheus": (("/alerts", "what fires"),),
    "grafana": (
        ("/d/daemonpulse-overview", "start here: is everything up?"),
        ("/d/daemonpulse-pulse", "requests, and what they write while they run"),
        ("/d/daemonpulse-forge", "what is loaded, with buttons"),
    ),
}
"""Where to look first, below the address of a part."""


def run(*, scenario: str, seed: int, seconds: float | None, urls_file: Path | None) -> int:
    """Run the demo; return the exit code: 0 fine, 1 something was not as promised. Exits when asked wrongly."""
    if unknown := [part for part in scenario.split("+") if part not in SCENARIOS]:
        fail(f"--scenario={scenario}: there is no {unknown[0]!r}; choose of {', '.join(SCENARIOS)}")
    if urls_file is not None and not os.access(urls_file.absolute().parent, os.W_OK):
        fail(f"--urls-file={urls_file}: its folder does not exist or cannot be written; choose another")
    try:
        with leftovers("daemonpulse-demo-") as left:
            return asyncio.run(Demo(left, scenario, seed, urls_file).run(seconds))
    except SettingsError as error:
        fail(str(error))
    except ProgramFailed as error:
        fail(str(error), 1)


class Demo:
    """One run of the demo in a folder of its own."""

    _screen: DemoScreen

    def __init__(self, left: Leftovers, scenario: str, seed: int, urls_file: Path | None) -> None:
        self._left = left
        self._folder = folder = left.folder
        self._urls_file = urls_file
        self._home = folder / "lmstudio-home"
        self._home.mkdir()
        self._mcp_json = self._home / "mcp.json"
        self._sim = SimConfig(
            seed=seed,
            scenario=scenario,
            home=self._home,
            mcp_json=self._mcp_json,
            settings=Settings(allow_mcp_json=True),
            start_ms=round(time.time() * 1000),
        )
        self._live_token = LiveToken(secrets.token_urlsafe(32))
        self.urls: dict[str, str] = {}
        self._notes: list[str] = []

    async def run(self, seconds: float | None) -> int:
        """Start everything, show it until it is to end, and stop it again; return the exit code."""
        with logs.kept_in(self._folder / "log"):
            self._notes.append(f"exporter and actions API log to {self._folder / 'log'}")
            self._screen = DemoScreen()
            async with contextlib.AsyncExitStack() as stack:
                simulator = await stack.enter_async_context(Simulator(self._sim))
                self.urls["llmster"] = simulator.url
                await self._start_receivers(stack)
                self.urls["tap"], reports_url = await start_tap(stack, simulator, self._live_token)
                exporter = await self._start_exporter(stack, simulator, reports_url)
                self.urls["actions"], token_file = await start_actions(
                    stack,
                    simulator,
                    self._folder,
                    self._mcp_json,
                    exporter_url=self.urls["exporter"],
                    live_token=self._live_token,
                )
                state = self._folder / "actions"
                if self._sim.scenario != "idle":
                    asking = asyncio.create_task(ask_for_ever(self.urls["tap"], seed=self._sim.seed))
                    stack.push_async_callback(end, asking)
                where = f"--url {self.urls['actions']} --token-file {token_file}"
                self._notes += [
                    f"one screen: {_command()} top --url {self.urls['exporter']}",
                    f"to load and eject: {_command()} actions load qwen/qwen3-0.6b {where}",
                    f"pending tool calls: {_command()} actions mcp approvals {where}",
                    f"a token for admins: {_command()} actions token new --name me --scope admin --state {state}",
                ]
                await self._start_stack(stack, token_file)
                told = stack.enter_context(_told_to_stop())
                self._announce()
                ends: set[asyncio.Future[None]] = {exporter, told}
                if seconds is None and is_possible():
                    await self._screen.show(self.urls["exporter"], self.urls["actions"], token_file, ends)
                else:
                    await self.pulse(ends, seconds)
                return 0 if seconds is None else await self.verify()

    async def _start_exporter(
        self, stack: contextlib.AsyncExitStack, simulator: Simulator, reports_url: str
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
            capture="full",  # simulated prompts and answers are no one's content
            live_token=self._live_token,
            reasoning_tags=(),
            daemons=(
                DaemonSettings(
                    name=DAEMON_NAME, url=simulator.url, token=None, home=self._home, tap_url=reports_url
                ),
            ),
        )
        ready = asyncio.Event()
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(
            app.serve(
                settings,
                ready=lambda _url: ready.set(),
                gpus=simulated_gpus(simulator.daemon, loop),
                host=SimulatedHost(simulator.daemon, loop),
            )
        )
        stack.push_async_callback(end, task)
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            task.result()
        self.urls["exporter"] = f"http://127.0.0.1:{port}"
        return task

    async def _start_receivers(self, stack: contextlib.AsyncExitStack) -> None:
        """Start what takes spans and log records first, so that the exporter finds it."""
        port = free_port()
        if await self._start(stack, programs.tempo(self._folder, otlp_port=port)):
            os.environ.setdefault("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"http://127.0.0.1:{port}/v1/traces")
        if await self._start(stack, programs.loki(self._folder)):
            logs_url = f"{self.urls['loki']}/otlp/v1/logs"
            os.environ.setdefault("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", logs_url)

    async def _start_stack(self, stack: contextlib.AsyncExitStack, token_file: Path) -> None:
        """Start what scrapes, alerts and shows."""
        webhook = stack.enter_context(alert_sink(self._tell))
        await self._start(stack, programs.alertmanager(self._folder, webhook=webhook))
        targets = [self.urls["exporter"], self.urls["actions"]]
        alertmanager = self.urls.get("alertmanager")
        port = free_port()
        grafana = programs.grafana(self._folder, urls=self.urls, token_file=token_file, port=port)
        shown = {"grafana": f"http://localhost:{port}"} if grafana.find() else {}
        await self._start(
            stack, programs.prometheus(self._folder, targets=targets, alertmanager=alertmanager, **shown)
        )
        await self._start(stack, grafana)

    async def _start(self, stack: contextlib.AsyncExitStack, program: Program) -> bool:
        """Start a program if it is here; note what it would add if it is not."""
        log_file = self._folder / f"{program.name}.log"
        url = await stack.enter_async_context(
            running(program, log_file=log_file, started=self._left.add_group)
        )
        if url is None:
            self._notes.append(f"{program.name} is not on PATH; with it {program.adds}")
            return False
        self.urls[program.name] = url
        return True

    def _tell(self, alert: Alert) -> None:
        """Show an alert that Alertmanager sent: on the screen, else as a line."""
        if not self._screen.tell(alert):
            tell(alert)

    def _announce(self) -> None:
        rows = [(name, self.urls[name], what) for name, what in _PARTS.items() if name in self.urls]
        click.echo(f"DaemonPulse demo, scenario {self._sim.scenario}, seed {self._sim.seed}\n")
        width = max(len(url) for _, url, _ in rows)
        for name, url, what in rows:
            click.echo(f"  {name:<12} {url:<{width}}  {what}")
            for path, shows in _LINKS.get(name, ()):
                click.echo(f"  {'':<12} {url}{path}  {shows}")
        for note in self._notes:
            click.echo(f"  note: {note}")
        click.echo("\nCtrl-C stops everything.\n" if sys.stdout.isatty() else "")
        if self._urls_file is not None:
            temporary = self._urls_file.with_name(self._urls_file.name + ".new")
            temporary.write_text(json.dumps(self.urls, indent=2) + "\n")
            temporary.replace(self._urls_file)

    async def pulse(self, ends: set[asyncio.Future[None]], seconds: float | None) -> None:
        """Show one line of life, until time is up, or one of `ends` is done: the exporter, or a signal."""
        deadline = None if seconds is None else time.monotonic() + seconds
        line, pulse = "", Pulse()
        async with httpx.AsyncClient(trust_env=False, timeout=ANSWER_S) as http:
            while not any(end.done() for end in ends) and (deadline is None or time.monotonic() < deadline):
                try:
                    line = pulse.line(await samples(http, self.urls["exporter"]), now_s=time.monotonic())
                except httpx.TransportError as error:
                    if any(end.done() for end in ends):
                        break  # a signal ended the exporter between two checks
                    line = f"no answer from the exporter ({type(error).__name__})"
                if sys.stdout.isatty():
                    columns = shutil.get_terminal_size().columns
                    click.echo(f"\r{line[: columns - 1]:<{columns - 1}}", nl=False)
                left_s = (
                    PULSE_EVERY_S if deadline is None else min(PULSE_EVERY_S, deadline - time.monotonic())
                )
                await asyncio.wait(ends, timeout=max(0.0, left_s), return_when=asyncio.FIRST_COMPLETED)
            click.echo(("\n" if sys.stdout.isatty() else "") + line)

    async def verify(self) -> int:
        """Check what the demo promises, on what a scraper and Prometheus see."""
        problems: list[str] = []
        async with httpx.AsyncClient(trust_env=False, timeout=ANSWER_S) as http:
            try:
                seen = {name for name, _, _ in await samples(http, self.urls["exporter"])}
                missing = [row.name for row in _PROMISED if row.name not in seen]
                if missing:
                    problems.append(f"state metrics that were not served: {', '.join(missing)}")
                if "prometheus" in self.urls:
                    problems += await _stored_problems(http, self.urls["prometheus"])
            except httpx.TransportError as error:
                problems.append(f"{error.request.url} does not answer: {type(error).__name__}")
        for problem in problems:
            click.echo(f"daemonpulse: {problem}", err=True)
        if not problems:
            click.echo(f"all {len(_PROMISED)} state metrics served" + self._stored_words())
        return 1 if problems else 0

    def _stored_words(self) -> str:
        return (
            ", and stored by Prometheus" if "prometheus" in self.urls else "; not stored: no Prometheus here"
        )


def _command() -> str:
    """Name this command so that it can be typed as printed: by its path when it is not on PATH."""
    return "daemonpulse" if shutil.which("daemonpulse") else sys.argv[0]


@contextlib.contextmanager
def _told_to_stop() -> Iterator[asyncio.Future[None]]:
    """Give a future that a signal completes. Exporter and actions API each asked for the signals; the last one wins."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[None] = loop.create_future()
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def stop(number: signal.Signals) -> None:
        if number == signal.SIGHUP:  # the terminal is gone: what is printed from now on has nowhere to go
            with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a file descriptor, no path
                for descriptor in (1, 2):  # sys.stdout is the screen's while it is shown
                    os.dup2(nowhere.fileno(), descriptor)
        if not told.done():
            told.set_result(None)

    for number in numbers:
        loop.add_signal_handler(number, stop, number)
    try:
        yield told
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
        told.cancel()


def tell(alert: Alert) -> None:
    """Print an alert; any process on this host can send one."""
    click.echo("")
    say(f"alert {alert.status}: {alert.name}: {alert.summary}")


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
    for row in _PROMISED:
        answer = (await http.get(f"{url}/api/v1/query", params={"query": row.name})).json()
        if not answer["data"]["result"]:
            problems.append(f"Prometheus has not stored {row.name}")
    return problems


Sample = tuple[str, dict[str, str], float]
"""Name, labels, value."""


async def samples(http: httpx.AsyncClient, exporter_url: str) -> list[Sample]:
    """Scrape the exporter. Raises httpx.TransportError."""
    text = (await http.get(f"{exporter_url}/metrics")).text
    return [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
