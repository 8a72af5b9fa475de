"""Make what the OS packages hold beside the program: man pages, shell completion, settings files.

Usage: python compose/packages/files.py FOLDER. All of it is made of the command and of the tables of settings.
"""

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from time import gmtime, strftime, time

import click
from click_man.core import write_man_pages

from actions.settings import SETTINGS as ACTIONS
from actions.settings import SHARED as OF_ACTIONS
from daemonpulse.cli import main
from exporter.settings import SETTINGS as EXPORTER
from exporter.shared.settings_table import Setting
from exporter.tap.settings import SETTINGS as TAP
from exporter.tap.settings import SHARED as OF_TAP

SERVICES = {
    "exporter": EXPORTER,
    "actions": [*ACTIONS, *(row for row in EXPORTER if row.key in OF_ACTIONS)],
    "tap": [*TAP, *(row for row in EXPORTER if row.key in OF_TAP)],
}
SHELLS = {"bash": "daemonpulse", "zsh": "_daemonpulse", "fish": "daemonpulse.fish"}


def make(folder: Path) -> None:
    """Write everything into subfolders of `folder`."""
    made_at = gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time())))
    man = folder / "man"
    man.mkdir(parents=True)
    prepare(main)
    write_man_pages(
        "daemonpulse",
        main,
        version=metadata.version("daemonpulse"),
        target_dir=str(man),
        date=strftime("%Y-%m-%d", made_at),
    )
    for page in man.iterdir():
        page.write_text(keep_lines(page.read_text(encoding="utf-8")), encoding="utf-8")
    (folder / "etc").mkdir()
    for name, rows in SERVICES.items():
        (folder / "etc" / f"{name}.env").write_text(settings_file(name, rows), encoding="utf-8")
    (folder / "completion").mkdir()
    for shell, name in SHELLS.items():
        (folder / "completion" / name).write_text(completion(shell), encoding="utf-8")


def prepare(command: click.Command) -> None:
    """Give each command a short help that is not cut: it is the line that `apropos` shows."""
    command.short_help = command.get_short_help_str(limit=200)
    for below in getattr(command, "commands", {}).values():
        prepare(below)


def keep_lines(page: str) -> str:
    """Turn click's mark of paragraphs that are not to be wrapped into troff's, and escape what troff would obey."""
    page = re.sub(r"(?ms)^\x08\n(.*?)(?=^\.|\Z)", ".nf\n\\1.fi\n", page)
    return re.sub(r"(?m)^(')", r"\\&\1", page)


def settings_file(name: str, rows: Iterable[Setting]) -> str:
    """Write a settings file for systemd, with each setting as a comment."""
    lines = [
        f"# Settings of daemonpulse-{name}.service: remove the # of a line, then systemctl restart daemonpulse-{name}.",
        "# An API token belongs in a file of its own; the unit says how to hand it over.",
    ]
    for row in rows:
        lines.append("")
        lines += textwrap.wrap(row.help, 110, initial_indent="# ", subsequent_indent="# ")
        lines.append(f"#{row.env}={row.default}")
    return "\n".join(lines) + "\n"


def completion(shell: str) -> str:
    """Ask the command for its completion."""
    command = Path(sys.executable).with_name("daemonpulse")
    environment = {**os.environ, "_DAEMONPULSE_COMPLETE": f"{shell}_source"}
    return subprocess.run([command], env=environment, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    make(Path(sys.argv[1]))
