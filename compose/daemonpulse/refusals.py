"""Ends a command that cannot run with one line: wrong usage, files that cannot be written, packages that are missing.

Depends on the extras of commands and on the installation, not on what a command does.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import io
import json
import os
import shlex
import sys
from collections.abc import Iterator
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


_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
_UNUSABLE_PLACE: Final = frozenset(
    {
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG),
        *(errno.EACCES, errno.EPERM, errno.EROFS),
    }
)


class OneLineGroup(click.Group):
    """The root command: whatever is below it ends with one line when it cannot run."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program. A character that the terminal's encoding lacks is shown as `?`."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        return super().main(*args, **kwargs)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the root's own flags."""
        with _one_line(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand."""
        with _one_line(ctx):
            return super().invoke(ctx)


@contextlib.contextmanager
def _one_line(ctx: click.Context) -> Iterator[None]:
    """End with one line for what a user can mend; anything else keeps its traceback."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        raise WrongUsage(error, ctx.command_path) from None
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _OWN or not missing:
            raise
        name = ctx.invoked_subcommand or ""
        fail(f"{name}: {missing} is not installed; run: {install_command(EXTRAS.get(name, ''))}")
    except OSError as error:
        name = ctx.invoked_subcommand or ctx.command_path
        what = f"{name}: {error.filename or 'output'}: {error.strerror}"
        if error.errno in _FULL:
            _discard_output()
            fail(what, 1)
        if not error.filename or error.errno not in _UNUSABLE_PLACE:
            raise
        fail(f"{what}; name another place, or change its permissions")


def _discard_output() -> None:
    """Keep what stdout still holds from failing once more when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a descriptor
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


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
