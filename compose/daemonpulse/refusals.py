"""Ends a command that cannot run with one line: wrong usage, and packages that this installation lacks.

Depends on the extras of commands and on the installation, not on what a command does.
"""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import unquote, urlsplit

import click

from exporter.shared.terminal import fail, say

EXTRAS: Final = {
    "actions": "actions",
    "dashboards": "dashboards",
    "demo": "all",
    "simulate": "sim",
    "top": "top",
}
"""What a command needs beside the core, as pyproject.toml names it."""

_OWN: Final = frozenset({"actions", "daemonpulse", "dashboards", "exporter", "llmster_sim"})


class WrongUsage(click.ClickException):
    """Arguments that click refuses, on one line instead of its three."""

    exit_code = 2

    def __init__(self, refused: click.UsageError, command: str) -> None:
        super().__init__(refused.format_message())
        self._command = refused.ctx.command_path if refused.ctx else command

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it on stderr."""
        del file
        say(f"daemonpulse: {' '.join(self.message.split())} (help: {self._command} --help)", err=True)


class OneLineGroup(click.Group):
    """The root command: whatever is below it ends with one line when it cannot run."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the root's own flags."""
        try:
            return super().parse_args(ctx, args)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            raise WrongUsage(error, ctx.command_path) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            raise WrongUsage(error, ctx.command_path) from None
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing in _OWN or not missing:
                raise
            extra = EXTRAS.get(ctx.invoked_subcommand or "", "")
            fail(f"{ctx.invoked_subcommand}: {missing} is not installed; run: {install_command(extra)}")


def install_command(extra: str) -> str:
    """Give the line that adds an extra to this installation: from the checkout or wheel it was made of, if any."""
    what = f"[{extra}]" if extra else ""
    words = [sys.executable, "-m", "pip"]
    if importlib.util.find_spec("pip") is None:
        words = ["pip", "--python", sys.executable]
    words.append("install")
    source = json.loads(metadata.distribution("daemonpulse").read_text("direct_url.json") or "{}")
    url = urlsplit(str(source.get("url", "")))
    path = unquote(url.path)
    if url.scheme != "file" or not Path(path).exists():
        # Not by its name alone: whose package an index has under that name is not known here.
        return f"{shlex.join(words)} 'CHECKOUT_OR_WHEEL{what}'"
    pins = Path(path) / "compose" / "constraints.txt"
    if pins.is_file():
        words += ["-c", str(pins)]
    if source.get("dir_info", {}).get("editable"):
        words.append("-e")
    return shlex.join([*words, f"{path}{what}"])
