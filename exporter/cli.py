"""`daemonpulse exporter`: serve metrics of the daemons. `daemonpulse tap`: relay requests to one, and read a copy.

Imports their modules when a command runs, so that `--help` is fast.
"""

from __future__ import annotations

from typing import BinaryIO

import click

from exporter.settings import SETTINGS
from exporter.shared.settings_flags import settings_flags
from exporter.shared.terminal import fail
from exporter.tap.settings import SETTINGS as TAP_SETTINGS
from exporter.tap.settings import SHARED


@click.command()
@settings_flags(SETTINGS)
@click.option(
    "--replay",
    type=click.File("rb"),
    help="Replay a recorded stream (`lms log stream --json`, - for stdin) instead of watching daemons.",
)
def exporter(*, replay: BinaryIO | None, **flags: str | None) -> None:
    """Serve metrics of your daemons for Prometheus.

    Unconfigured, it watches http://127.0.0.1:1234 and serves http://127.0.0.1:9810/metrics. It only ever connects:
    it never runs `lms`, and cannot wake a daemon that is stopped.

    \b
    Example:  daemonpulse exporter --replay docs/examples/log-stream.jsonl
    """  # noqa: D301 - click wants a real backspace
    from exporter import app, settings
    from exporter.shared.settings_table import SettingsError

    try:
        app.run(settings.load(flags), recording=replay)
    except SettingsError as error:
        fail(str(error))


@click.command()
@settings_flags([*(row for row in SETTINGS if row.key in SHARED), *TAP_SETTINGS])
def tap(**flags: str | None) -> None:
    """Relay requests to a daemon unchanged, and read a copy.

    The exporter then has the client of each request and the arrival time of each part of its response.
    Unconfigured, it listens on http://127.0.0.1:1235 in place of http://127.0.0.1:1234. Give the exporter
    `--daemon-tap-url http://127.0.0.1:9812`, and clients the tap's address. docs/TAP.md says what it costs.
    """
    from exporter.shared.settings_table import SettingsError
    from exporter.tap import app, settings

    try:
        app.run(settings.load(flags))
    except SettingsError as error:
        fail(str(error))
