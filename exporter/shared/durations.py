"""Time spans on the command line: 90, 90s, 30m, 1h, 7d."""

from __future__ import annotations

import re
from typing import Final

import click

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "": 1}


class Duration(click.ParamType[int]):
    """A time span such as 90, 90s, 30m, 1h or 7d, in whole seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        match = re.fullmatch(r"(\d{1,9})([smhd]?)", str(value))
        if match is None or int(match[1]) == 0:
            self.fail(f"{value!r} is no time span; write 90s, 30m, 1h or 7d", param, ctx)
        return int(match[1]) * _UNITS_S[match[2]]
