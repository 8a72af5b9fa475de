"""Makes a command's flags from a table of settings.

Does not depend on single settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from exporter.shared.settings_table import Setting


def settings_flags(rows: Sequence[Setting]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add a flag for every row but the daemon's token: on a command line every process list shows it."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for one in reversed(rows):
            if one.key == "daemon_token":
                continue
            default = f"  [default: {one.default}]" if one.default else ""
            flag = "--" + one.key.replace("_", "-")
            command = click.option(flag, one.key, help=f"{one.help}  [env: {one.env}]{default}")(command)
        return command

    return add
