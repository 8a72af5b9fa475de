"""Flags that the client verbs of `daemonpulse actions` share, and the connection that they make.

A verb is called with `api`, which knows the daemons that are meant, and `as_json`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from actions.cli import completion
from actions.cli.connection import DEFAULT_URL, Api


def client_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags that every client of the API has, and call the command with the connection they mean."""

    @functools.wraps(command)
    def run(
        *,
        url: str,
        token_file: Path | None,
        daemon: tuple[str, ...] = (),
        site: str | None = None,
        **given: Any,
    ) -> None:
        with Api(url, token_file, daemons=daemon, site=site) as api:
            command(api=api, **given)

    wrapped: Callable[..., Any] = run
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
        wrapped = option(wrapped)
    return wrapped


def verb_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags that every verb about daemons has."""
    wrapped = client_flags(command)
    for option in reversed(
        (
            click.option(
                "--daemon",
                multiple=True,
                shell_complete=completion.daemons,
                help="Which daemon; may be given again. Default: the only one there is.",
            ),
            click.option("--site", shell_complete=completion.sites, help="All daemons of this site."),
        )
    ):
        wrapped = option(wrapped)
    return wrapped
