"""Flags that the client verbs of `daemonpulse actions` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from actions.cli import completion
from actions.cli.connection import DEFAULT_URL


def client_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags that every client of the API has."""
    for option in reversed(
        (
            click.option(
                "--url",
                envvar="DAEMONPULSE_ACTIONS_URL",
                default=DEFAULT_URL,
                show_default=True,
                help="Where the actions API is.  [env: DAEMONPULSE_ACTIONS_URL]",
            ),
            click.option(
                "--token-file",
                envvar="DAEMONPULSE_ACTIONS_TOKEN_FILE",
                type=click.Path(path_type=Path),
                help="File with the token. Else DAEMONPULSE_ACTIONS_TOKEN, or the file actions-token in the "
                "configuration folder.  [env: DAEMONPULSE_ACTIONS_TOKEN_FILE]",
            ),
            click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON."),
        )
    ):
        command = option(command)
    return command


def verb_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags that every verb has."""
    return click.option(
        "--daemon", shell_complete=completion.daemons, help="Which daemon. Default: the only one there is."
    )(client_flags(command))
