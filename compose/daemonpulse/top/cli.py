"""`daemonpulse top`: one screen over SSH, without Prometheus or Grafana."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
import sys
from pathlib import Path

import click

from exporter.settings import SETTINGS, ExporterSettings
from exporter.shared.settings_flags import settings_flags
from exporter.shared.terminal import fail


@click.command()
@settings_flags([row for row in SETTINGS if row.key.startswith("daemon_") or row.key in {"config", "listen"}])
@click.option(
    "--url", help="The exporter to read.  [default: the one at --listen; without one, a private one]"
)
@click.option(
    "--interval",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.2, 60),
    help="Seconds between readings.",
)
@click.option("--once", is_flag=True, help="Print the screen once, as text, and exit.")
@click.option("--json", "as_json", is_flag=True, help="Print one reading as JSON and exit.")
@click.option(
    "--actions-url", envvar="DAEMONPULSE_ACTIONS_URL", help="Actions API, for load, eject and approve."
)
@click.option(
    "--token-file",
    envvar="DAEMONPULSE_ACTIONS_TOKEN_FILE",
    type=click.Path(path_type=Path),
    help="Token of the actions API; without one the screen is read-only.",
)
def top(
    *,
    url: str | None,
    interval: float,
    once: bool,
    as_json: bool,
    actions_url: str | None,
    token_file: Path | None,
    **flags: str | None,
) -> None:
    """Show GPUs, instances and requests on one screen.

    Reads the exporter at --url or --listen. Without one it watches the daemon and the GPUs itself, and never wakes a
    stopped daemon.

    \b
    Example: daemonpulse top --once
    """  # noqa: D301 - click wants a real backspace before lines that are to stay as they are
    from exporter import settings
    from exporter.shared.settings_table import SettingsError

    try:
        chosen = settings.load(flags)
    except SettingsError as error:
        fail(str(error))
    try:
        if once or as_json:
            asyncio.run(_print(url, chosen, as_json=as_json))
        else:
            asyncio.run(_show(url, chosen, interval, actions_url, token_file))
    except KeyboardInterrupt:
        sys.exit(130)


async def _print(url: str | None, chosen: ExporterSettings, *, as_json: bool) -> None:
    from daemonpulse.top.cells import plain
    from daemonpulse.top.source import Unreadable, source

    try:
        async with source(url, chosen) as opened:
            screen = await opened.screen()
    except Unreadable as error:
        fail(str(error), 1)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(screen), indent=2))
    else:
        click.echo(plain(screen, width=shutil.get_terminal_size().columns))


async def _show(
    url: str | None,
    chosen: ExporterSettings,
    interval: float,
    actions_url: str | None,
    token_file: Path | None,
) -> None:
    from daemonpulse.top.commands import Commands
    from daemonpulse.top.screen import Top
    from daemonpulse.top.source import Unreadable, source

    if not sys.stdout.isatty():
        fail("top: stdout is not a terminal; use --once or --json")
    commands = Commands(actions_url, token_file) if token_file is not None else None
    try:
        async with source(url, chosen) as opened:
            await Top(opened, interval_s=interval, commands=commands).run_async()
    except Unreadable as error:
        fail(str(error), 1)
