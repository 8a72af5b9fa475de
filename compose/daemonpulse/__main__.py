"""Starts the `daemonpulse` command. Ctrl-C while it is still being imported ends it without a traceback."""

from __future__ import annotations

import sys
from typing import Final

INTERRUPTED: Final = 130
"""Exit code of a program that SIGINT ended, as shells tell it."""


def main() -> None:
    """Import the command and run it."""
    try:
        from daemonpulse.cli import main as command
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    command()


if __name__ == "__main__":
    main()
