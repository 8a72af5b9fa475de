"""`daemonpulse exporter`: serve metrics of the daemons.

Imports the exporter when the command runs, so that `--help` is quick.
"""

from __future__ import annotations

from typing import BinaryIO

import click

from exporter.settings import SETTINGS
from exporter.shared.settings_flags import settings_flags
from exporter.shared.terminal import fail


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
    """
    from exporter import app, settings
    from exporter.shared.settings_table import SettingsError

    try:
        app.run(settings.load(flags), recording=replay)
    except SettingsError as error:
        fail(str(error))
