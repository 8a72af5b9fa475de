"""Finds the token of the client verbs: a file that a flag or variable names, a variable, or the user's own file."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from exporter.shared import bounded_file
from exporter.shared.terminal import fail

VARIABLE = "DAEMONPULSE_ACTIONS_TOKEN"


def own_file() -> Path:
    """Say where the user's token is kept. Source: XDG Base Directory Specification."""
    base = os.environ.get("XDG_CONFIG_HOME") or ""
    folder = Path(base) if Path(base).is_absolute() else Path.home() / ".config"
    return folder / "daemonpulse" / "actions-token"


def token(token_file: Path | None) -> str | None:
    """Find the token: --token-file or its variable, the variable, the user's own file. Ends the program if unusable."""
    if token_file is not None:
        return _read(token_file, f"--token-file={token_file}")
    from_variable = os.environ.get(VARIABLE)
    if from_variable:
        return _usable(from_variable, VARIABLE)
    file = own_file()
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError:
        return None
    if mode & 0o077:
        fail(f"{file}: others may read it (mode {mode:04o}); run: chmod 600 {file}")
    return _read(file, str(file))


def missing() -> str:
    """Say that a token is needed, and the places it is looked for."""
    return (
        f"a token is needed: give --token-file FILE, set {VARIABLE} or {VARIABLE}_FILE, or write it to {own_file()} "
        "(mode 0600); make one on the service's host: daemonpulse actions token new --scope operate --name me"
    )


def _read(file: Path, named: str) -> str:
    try:
        text = bounded_file.read_text(file)
    except (OSError, ValueError) as error:
        fail(f"{named}: cannot be read ({bounded_file.why(error)})")
    return _usable(text, named)


def _usable(text: str, named: str) -> str:
    """Refuse what no header can carry; the value is not shown."""
    if not re.fullmatch(r"[!-~]+", token := text.strip()):
        fail(f"{named}: holds no token; write one such as dp_… and nothing else, on one line")
    return token
