"""The row Live of the board Pulse: requests while they run, and what one of them writes."""

from __future__ import annotations

from typing import Final

from dashboards.kit import plots, tables
from dashboards.kit.board import row, section
from dashboards.kit.tables import Column
from dashboards.kit.targets import ApiQuery
from dashboards.kit.variables import Variable

REQUEST: Final = Variable(
    "request",
    "Request",
    "textbox",
    default="",
    about="The request whose text the row Live shows: a click in its table sets it, newest follows the newest one. "
    "Each look is a row of the audit.",
)

_REQUESTS = tables.table(
    "Requests in flight",
    "What runs, and who asked? Clients and tokens need a tap. A click on a request shows its text.",
    ApiQuery("live"),
    columns=(
        Column("client", "Client", width=105),
        Column("model", "Model"),
        Column("phase", "Phase", width=80),
        Column("output_tokens", "Tokens", width=70, decimals=0),
        Column("tokens_per_second", "tok/s", unit="short", width=65, decimals=1),
        Column("elapsed_seconds", "Elapsed", unit="s", width=84, decimals=1),
        Column("prompt_progress_ratio", "Prefill", unit="percentunit", width=75, decimals=0),
        Column("daemon", "Daemon", width=80),
        Column("request", "Request", width=90, link="daemonpulse-pulse?var-request=${__value.raw}"),
    ),
    largest="Elapsed",
)
_TEXT = plots.stretches(
    "Think",
    "What does the chosen request write? For Editors, with a tap and capture=full. Blue: reasoning.",
    ApiQuery("think", request="$request"),
)

LIVE: Final = section("Live", row(9, (15, _REQUESTS), (9, _TEXT)))
