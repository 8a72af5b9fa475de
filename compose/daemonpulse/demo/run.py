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
import sys
import time
from pathlib import Path
from typing import Any, Final

import click

from daemonpulse.demo import stack as programs
from daemonpulse.demo.actions import DAEMON_NAME, start_actions
from daemonpulse.demo.alert_sink import Alert, alert_sink
from daemonpulse.demo.clients import ask_for_ever
from daemonpulse.demo.leftovers import Leftovers, leftovers
from daemonpulse.demo.programs import Program, ProgramFailed, free_port, running
from daemonpulse.demo.screen import DemoScreen, is_possible
from daemonpulse.demo.servers import Servers
from daemonpulse.demo.simulated_host import SimulatedHost, simulated_gpus
from daemonpulse.demo.status_output import show_status
from daemonpulse.demo.tap import start_tap
from daemonpulse.demo.verification import verify
from daemonpulse.serving import end
from exporter import app
from exporter.settings import DaemonSettings, ExporterSettings
from exporter.shared import logs
from exporter.shared.live_token import LiveToken
from exporter.shared.settings_table import SettingsError
from exporter.shared.terminal import fail, say
from llmster_sim.engine.daemon import Settings
from llmster_sim.server import SimConfig, Simulator
from llmster_sim.traffic.scenarios import SCENARIOS

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
            return asyncio.run(_Demo(left, scenario, seed, urls_file).run(seconds))
    except SettingsError as error:
        fail(str(error))
    except ProgramFailed as error:
        fail(str(error), 1)


class _Demo:
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
        self._urls: dict[str, str] = {}
        self._notes: list[str] = []

    async def run(self, seconds: float | None) -> int:
        """Start everything, show it until it is to end, and stop it again; return the exit code."""
        with logs.kept_in(self._folder / "log"):
            self._notes.append(f"exporter and actions API log to {self._folder / 'log'}")
            self._screen = DemoScreen()
            async with contextlib.AsyncExitStack() as stack:
                servers = Servers(stack)
                stack.enter_context(servers.signals())
                starting = asyncio.create_task(self._start_all(stack, servers))
                started_or_told: set[asyncio.Future[Any]] = {starting, servers.told}
                await asyncio.wait(started_or_told, return_when=asyncio.FIRST_COMPLETED)
                if not starting.done():
                    await end(starting)
                    return 0
                token_file = starting.result()
                self._announce()
                if seconds is None and is_possible():
                    await self._screen.show(
                        self._urls["exporter"], self._urls["actions"], token_file, servers.ends
                    )
                else:
                    await show_status(self._urls["exporter"], servers.ends, seconds)
                return 0 if seconds is None else await verify(self._urls)

    async def _start_all(self, stack: contextlib.AsyncExitStack, servers: Servers) -> Path:
        """Start the parts; they end with `stack`. Returns the file with a token of the actions API."""
        simulator = await stack.enter_async_context(Simulator(self._sim))
        self._urls["llmster"] = simulator.url
        await self._start_receivers(stack)
        self._urls["tap"], reports_url = await start_tap(servers, simulator, self._live_token)
        self._urls["exporter"] = await self._start_exporter(servers, simulator, reports_url)
        self._urls["actions"], token_file = await start_actions(
            servers,
            simulator,
            self._folder,
            self._mcp_json,
            exporter_url=self._urls["exporter"],
            live_token=self._live_token,
        )
        state = self._folder / "actions"
        if self._sim.scenario != "idle":
            asking = asyncio.create_task(ask_for_ever(self._urls["tap"], seed=self._sim.seed))
            stack.push_async_callback(end, asking)
        where = f"--url {self._urls['actions']} --token-file {token_file}"
        self._notes += [
            f"one screen: {_command()} top --url {self._urls['exporter']}",
            f"to load and eject: {_command()} actions load qwen/qwen3-0.6b {where}",
            f"pending tool calls: {_command()} actions mcp approvals {where}",
            f"a token for admins: {_command()} actions token new --name me --scope admin --state {state}",
        ]
        await self._start_stack(stack, token_file)
        return token_file

    async def _start_exporter(self, servers: Servers, simulator: Simulator, reports_url: str) -> str:
        settings = ExporterSettings(
            listen_host="127.0.0.1",
            listen_port=0,
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
        loop = asyncio.get_running_loop()
        (url,) = await servers.start(
            app.serve,
            settings,
            gpus=simulated_gpus(simulator.daemon, loop),
            host=SimulatedHost(simulator.daemon, loop),
        )
        return str(url)

    async def _start_receivers(self, stack: contextlib.AsyncExitStack) -> None:
        """Start what takes spans and log records first, so that the exporter finds it."""
        port = free_port()
        if await self._start(stack, programs.tempo(self._folder, otlp_port=port)):
            os.environ.setdefault("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"http://127.0.0.1:{port}/v1/traces")
        if await self._start(stack, programs.loki(self._folder)):
            logs_url = f"{self._urls['loki']}/otlp/v1/logs"
            os.environ.setdefault("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", logs_url)

    async def _start_stack(self, stack: contextlib.AsyncExitStack, token_file: Path) -> None:
        """Start what scrapes, alerts and shows."""
        webhook = stack.enter_context(alert_sink(self._tell))
        await self._start(stack, programs.alertmanager(self._folder, webhook=webhook))
        targets = [self._urls["exporter"], self._urls["actions"]]
        alertmanager = self._urls.get("alertmanager")
        port = free_port()
        grafana = programs.grafana(self._folder, urls=self._urls, token_file=token_file, port=port)
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
        self._urls[program.name] = url
        return True

    def _tell(self, alert: Alert) -> None:
        """Show an alert that Alertmanager sent: on the screen, else as a line."""
        if not self._screen.tell(alert):
            tell(alert)

    def _announce(self) -> None:
        rows = [(name, self._urls[name], what) for name, what in _PARTS.items() if name in self._urls]
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
            temporary.write_text(json.dumps(self._urls, indent=2) + "\n")
            temporary.replace(self._urls_file)


def _command() -> str:
    """Name this command so that it can be typed as printed: by its path when it is not on PATH."""
    return "daemonpulse" if shutil.which("daemonpulse") else sys.argv[0]


def tell(alert: Alert) -> None:
    """Print an alert; any process on this host can send one."""
    click.echo("")
    say(f"alert {alert.status}: {alert.name}: {alert.summary}")
