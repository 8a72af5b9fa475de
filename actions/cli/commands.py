"""`daemonpulse actions`: serve the actions API, manage its tokens and audit, or use it from a terminal.

Exit codes: see connection.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from actions.cli.audit import audit
from actions.cli.desired import DESIRED_COMMANDS
from actions.cli.engines import engines
from actions.cli.fleet import fleet
from actions.cli.mcp import mcp
from actions.cli.models import MODEL_COMMANDS
from actions.cli.status import STATUS_COMMANDS
from actions.cli.token import token
from exporter.shared.settings_flags import settings_flags
from exporter.shared.terminal import fail


@click.group()
def actions() -> None:
    """Load and eject models through an API that can be trusted.

    \b
    Serve it:   daemonpulse actions token new --scope operate --name me
                daemonpulse actions serve
    Use it:     export DAEMONPULSE_ACTIONS_TOKEN=dp_...
                daemonpulse actions load qwen/qwen3-8b --ttl 1h
    """  # noqa: D301 - click wants a real backspace before lines that are to stay as they are


def _serve_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    from actions.settings import SETTINGS, SHARED
    from exporter.settings import SETTINGS as EXPORTER_SETTINGS

    shared = [one for one in EXPORTER_SETTINGS if one.key in SHARED]
    return settings_flags([*SETTINGS, *shared])(command)


@actions.command()
@_serve_flags
def serve(**flags: str | None) -> None:
    """Serve the actions API.

    Unconfigured, it controls http://127.0.0.1:1234 and serves http://127.0.0.1:9811 (with documentation at /docs).
    Until a token exists, clients on this host may read and none may change anything.

    \b
    Example:  daemonpulse actions serve --daemon-url http://127.0.0.1:1234
    """  # noqa: D301 - click wants a real backspace
    from actions import app, settings
    from exporter.shared import logs
    from exporter.shared.settings_table import SettingsError

    try:
        chosen = settings.load(flags)
        logs.configure(level=chosen.log_level, format_=chosen.log_format)
        app.run(chosen)
    except SettingsError as error:
        fail(str(error))


for _command in (*STATUS_COMMANDS, *MODEL_COMMANDS, *DESIRED_COMMANDS):
    actions.add_command(_command)
for _group in (mcp, audit, token, engines, fleet):
    actions.add_command(_group)
