"""Console: what do daemons and engines log? The lines first, and how many of each level."""

from __future__ import annotations

from typing import Final

from dashboards.boards import common
from dashboards.kit import latency, panels, plots, style, theme
from dashboards.kit.board import NOTES, Board, row, section
from dashboards.kit.promql import RANGE, Selector, either, sum_by
from dashboards.kit.targets import LogQuery, Query
from dashboards.kit.variables import DAEMON, MODEL, SITE, Variable, source
from exporter.catalogue import log_stream as s

_B: Final = Selector({"daemon": "$daemon", "model": "$model"})

_LEVEL: Final = Variable(
    "level",
    "Level",
    "custom",
    "All : .*,Errors : error,Warnings and errors : warn.*|error,Debug : debug",
    default=".*",
    about="Severity of log lines.",
)
_FIND: Final = Variable(
    "find", "Contains", "textbox", about="Text that a line must contain; empty shows all."
)

_ALL: Final = '{service_name="llmster"} | llmster_daemon=~"$daemon" | severity_text=~"(?i)$level"'
_SERVER: Final = _ALL + ' | llmster_log="server" |= `$find`'
_OF_MODEL: Final = (
    ' | llmster_instance_id=~"$model.*" |= `$find` | line_format `[{{.llmster_instance_id}}] {{__line__}}`'
)
_RUNTIME: Final = _ALL + ' | llmster_log="runtime"' + _OF_MODEL
_PREDICTION: Final = _ALL + ' | llmster_log="prediction"' + _OF_MODEL

_LINES: Final = sum_by(_B.increase(s.SERVER_MESSAGES, RANGE))
_LOG = panels.counts(
    "Server log",
    "How many errors and warnings did the daemon log in this time?",
    Query(either(sum_by(_B.increase(s.SERVER_MESSAGES, RANGE, level="error")), _LINES * 0), "errors"),
    Query(either(sum_by(_B.increase(s.SERVER_MESSAGES, RANGE, level="warn")), _LINES * 0), "warnings"),
    Query(_LINES, "lines"),
    marks={"errors": theme.ANY_RED, "warnings": theme.ANY_AMBER},
)
_LEVELS = plots.events(
    "Lines by level",
    "When did the daemon log errors?",
    Query(sum_by(_B.increase(s.SERVER_MESSAGES, level="error"), "level"), "{{level}}"),
    Query(sum_by(_B.increase(s.SERVER_MESSAGES, level="!=error"), "level"), "{{level}}"),
    overrides=style.leveled(theme.LEVELS),
)
_SERVER_LOG = plots.logs(
    "Server log",
    "What does the daemon's server log? A click on a line shows its fields.",
    LogQuery(_SERVER),
)
_RUNTIME_LOG = plots.logs(
    "Engine log",
    "What do the engines log? Content is cut to lengths unless capture is on.",
    LogQuery(_RUNTIME),
)
_PREDICTION_LOG = plots.logs(
    "Predictions",
    "How did each request end? A click leads to its trace. With capture on the lines are the outputs.",
    LogQuery(_PREDICTION),
)
_TTFT = latency.percentiles(
    "TTFT", "How long until the first token, meanwhile?", _B, s.TTFT, log=True, low=0.01
)
_KINDS = plots.series(
    "Log events by type",
    "What does the log stream consist of?",
    Query(sum_by(_B.rate(s.EVENTS), "type"), "{{type}}"),
    unit="cps",
    stack=True,
    shades=True,
)
_HTTP = plots.series(
    "HTTP requests by route",
    "Which endpoints are used?",
    Query(sum_by(_B.rate(s.HTTP_REQUESTS), "route"), "{{route}}"),
    unit="reqps",
    stack=True,
    shades=True,
)
_STATUS = plots.events(
    "HTTP errors by status",
    "Which requests did the daemon refuse, as far as its log tells?",
    Query(sum_by(_B.increase(s.HTTP_RESPONSES), "status", "route") > 0, "{{status}} {{route}}"),
    shades=True,
)

BOARD: Final = Board(
    name="Console",
    question="What do daemons and engines log?",
    variables=(
        source("prometheus", "Prometheus"),
        source("loki", "Loki"),
        SITE,
        DAEMON,
        MODEL,
        _LEVEL,
        _FIND,
    ),
    notes=NOTES,
    answer=("Server log", "Lines by level"),
    sections=(
        section("", row(5, (5, _LOG), (19, _LEVELS)), row(14, (24, _SERVER_LOG))),
        section("Engine log", row(14, (24, _RUNTIME_LOG))),
        section("Predictions", row(12, (24, _PREDICTION_LOG))),
        section(
            "Speed and volume",
            row(8, (8, common.output_by_model(_B)), (8, _TTFT), (8, _KINDS)),
            row(7, (14, _HTTP), (10, _STATUS)),
        ),
    ),
)
