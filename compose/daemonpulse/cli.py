"""The `daemonpulse` command. A subcommand's code is imported when it runs, so that --help is fast.

Exit codes: 0 success, 1 failure, 2 wrong usage (one line with the value and the fix).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

import click

from actions.cli.commands import actions
from daemonpulse.healthcheck import healthcheck
from daemonpulse.refusals import OneLineGroup
from daemonpulse.top.cli import top
from dashboards.cli import dashboards
from exporter.cli import exporter, tap
from exporter.settings import SETTINGS
from exporter.shared.settings_flags import settings_flags
from exporter.shared.terminal import fail

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=OneLineGroup, context_settings=_CONTEXT)
@click.version_option(package_name="daemonpulse")
def main() -> None:
    """Metrics, traces, dashboards and safe controls for LM Studio's headless daemon (llmster).

    \b
    New here?      daemonpulse demo      a simulated daemon, seen by everything there is
    Your daemon?   daemonpulse check     what of your own set-up works, and how to fix the rest
    In production  daemonpulse exporter  /metrics for Prometheus
    To control     daemonpulse actions   load, eject and pre-flight, with tokens and an audit
    Who asks       daemonpulse tap       a transparent relay before a daemon: clients, exact phases, traces
    """  # noqa: D301 - click wants a real backspace before lines that are to stay as they are


main.add_command(dashboards)
main.add_command(exporter)
main.add_command(top)
main.add_command(healthcheck)
main.add_command(tap)
main.add_command(actions)


@main.command()
@settings_flags(SETTINGS)
@click.option(
    "--against",
    multiple=True,
    type=click.File("rb"),
    help="Instead: say which metrics, panels, alerts and actions would be lost with the daemon version that these "
    "frames, or lines of `lms log stream --json`, were recorded from.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check(*, against: tuple[BinaryIO, ...], as_json: bool, **flags: str | None) -> None:
    """Check your configuration, and print how to fix it.

    Takes the same settings as `daemonpulse exporter` and looks at each daemon the way the exporter would: found?
    LM Studio? token accepted? state readable? log stream open? is a tap before it? Exits 1 if something does not work.
    """
    from daemonpulse import check as checking
    from exporter import settings
    from exporter.shared.settings_table import SettingsError

    if against:
        from daemonpulse import against as comparing

        sys.exit(comparing.run(against, as_json=as_json))
    try:
        chosen = settings.load(flags)
    except SettingsError as error:
        fail(str(error))
    sys.exit(checking.run(chosen, as_json=as_json))


@main.command()
@click.option(
    "--scenario",
    default="demo",
    show_default=True,
    help="What the simulated daemon lives through: idle, steady, burst, agent, stuck, stall, restart, crash, "
    "malformed, leak, heat, mig, ecc, or demo, which is several of them. Join several with '+'.",
)
@click.option("--seed", default=7, show_default=True, help="Same seed, same events.")
@click.option(
    "--seconds", type=click.FloatRange(min=1), help="Run so long, check that all is seen, and exit 0 or 1."
)
@click.option(
    "--urls-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write name -> URL as JSON, for scripts.",
)
def demo(*, scenario: str, seed: int, seconds: float | None, urls_file: Path | None) -> None:
    """Show everything on a simulated daemon. No LM Studio, no GPU, no root, no Docker.

    Starts the simulator, a tap that simulated clients ask through, the exporter and the actions API, and of the stack
    what is on PATH: prometheus, alertmanager, tempo, loki, grafana. All on free ports of this host.
    Prints where to look, and alerts as they come; a terminal then shows `top`. q or Ctrl-C stops everything and leaves
    nothing behind.
    """
    from daemonpulse.demo import run as demonstration

    sys.exit(demonstration.run(scenario=scenario, seed=seed, seconds=seconds, urls_file=urls_file))


@main.command()
@settings_flags(SETTINGS)
@click.option(
    "--daemon-host", default="127.0.0.1", show_default=True, help="Where the simulated daemon listens."
)
@click.option(
    "--daemon-port",
    default=1234,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="And its port; 0 is any.",
)
@click.option(
    "--scenario", default="demo", show_default=True, help="What it lives through; see `demo --help`."
)
@click.option("--seed", default=7, show_default=True, help="Same seed, same events.")
def simulate(*, daemon_host: str, daemon_port: int, scenario: str, seed: int, **flags: str | None) -> None:
    """Serve a simulated daemon and an exporter that sees its GPUs.

    For a Prometheus and a Grafana of your own, or those of the compose stack. Of the exporter's settings those that
    say which daemon count for their name and token only. GPUs are marked source="simulated".
    """
    from daemonpulse.demo import simulate as simulation
    from exporter import settings
    from exporter.shared.settings_table import SettingsError

    try:
        simulation.run(settings.load(flags), host=daemon_host, port=daemon_port, scenario=scenario, seed=seed)
    except SettingsError as error:
        fail(str(error))
