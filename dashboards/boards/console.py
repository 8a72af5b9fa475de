"""Console: what does the daemon say? Its logs, with speed and first token beside them."""

from __future__ import annotations

from typing import Final

from dashboards.kit import panels
from dashboards.kit.board import DAEMON, MODEL, NOTES, Board, Variable, row, section, source
from dashboards.kit.promql import Scope, sum_by
from dashboards.kit.targets import LogQuery, Query
from exporter.catalogue import log_stream as s

_B: Final = Scope({"daemon": "$daemon", "model": "$model"})

_LEVEL: Final = Variable(
    "level",
    "Level",
    "custom",
    "Everything : .*,Errors : error,Warnings and errors : warn.*|error,Debug only : debug",
    default=".*",
    about="Severity of log lines, as a regular expression.",
)
_FIND: Final = Variable("find", "Contains", "textbox", about="Text a line must contain; empty shows all.")

_ALL: Final = '{service_name="llmster"} | llmster_daemon=~"$daemon" | severity_text=~"(?i)$level"'
_SERVER: Final = _ALL + ' | llmster_log="server" |= `$find`'
_RUNTIME: Final = _ALL + ' | llmster_log="runtime" | llmster_instance_id=~"$model.*" |= `$find`'
_PREDICTION: Final = _ALL + ' | llmster_log="prediction" | llmster_instance_id=~"$model.*" |= `$find`'

_SPEED = panels.series(
    "Tokens per second",
    "How fast do models write while this is said?",
    Query(sum_by(_B.rate(s.GENERATION_TOKENS), "model"), "{{model}}"),
    stack=True,
)
_TTFT = panels.series(
    "First token",
    "How long until the first token, meanwhile?",
    Query(_B.quantile(0.5, s.TTFT), "half of requests", exemplars=True),
    Query(_B.quantile(0.95, s.TTFT), "95 of 100"),
)
_LEVELS = panels.series(
    "Server messages by level",
    "Is the daemon complaining?",
    Query(sum_by(_B.rate(s.SERVER_MESSAGES), "level"), "{{level}}"),
    stack=True,
)
_KINDS = panels.series(
    "Log events by type",
    "What does the log stream consist of?",
    Query(sum_by(_B.rate(s.EVENTS), "type"), "{{type}}"),
    stack=True,
)
_ERRORS = panels.stat(
    "Errors",
    "How many errors does the server log, per second?",
    Query(sum_by(_B.rate(s.SERVER_MESSAGES, level="error"))),
    spark=True,
    no_value="None",
)
_LINES = panels.series(
    "Lines by level",
    "How much is logged, and how bad is it?",
    LogQuery(f"sum by (severity_text) (count_over_time({_ALL} [$__interval]))", "{{severity_text}}"),
    stack=True,
)
_SERVER_LOG = panels.logs(
    "Server",
    "What does the daemon's server say? Prompts are left out unless capture is on.",
    LogQuery(_SERVER),
)
_PREDICTION_LOG = panels.logs(
    "Predictions", "What did models answer? Empty unless capture is on.", LogQuery(_PREDICTION)
)
_RUNTIME_LOG = panels.logs(
    "Engines",
    "What do the inference engines say? Of most lines the length only, unless capture is on.",
    LogQuery(_RUNTIME),
)

BOARD: Final = Board(
    name="Console",
    question="What does the daemon say?",
    variables=(source("prometheus", "Prometheus"), source("loki", "Loki"), DAEMON, MODEL, _LEVEL, _FIND),
    notes=NOTES,
    answer=("Errors", "Server", "Server messages by level"),
    sections=(
        section(
            "",
            row(5, (4, _ERRORS), (8, _LEVELS), (6, _SPEED), (6, _TTFT)),
            row(15, (24, _SERVER_LOG)),
        ),
        section("Engines and predictions", row(14, (12, _RUNTIME_LOG), (12, _PREDICTION_LOG))),
        section("Volume", row(7, (12, _LINES), (12, _KINDS))),
    ),
)
