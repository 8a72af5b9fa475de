"""The section of Pulse about single requests: slow ones, those that reasoned longest, agent turns."""

from __future__ import annotations

from typing import Final

from dashboards.kit import tables
from dashboards.kit.board import Variable, row, section
from dashboards.kit.targets import TraceQuery

SLOW: Final = Variable(
    "slow",
    "Slow from",
    "custom",
    "1s,2s,5s,10s,30s,60s",
    default="5s",
    about="Requests that took at least this are listed under Traces.",
)

_REQUEST: Final = (
    'resource.service.name="llmster" && resource.llmster.daemon=~"$daemon"'
    ' && span.gen_ai.request.model=~"$model"'
)
_TRACES = tables.traces(
    "Slow requests",
    "Which requests took longest? The id opens the trace: prefill, reasoning, answer, tool calls.",
    TraceQuery(
        f"{{{_REQUEST} && duration >= $slow}}"
        " | select(span.gen_ai.request.model, span.gen_ai.usage.output_tokens, span.gen_ai.response.finish_reasons)",
        table="spans",
    ),
    columns={
        "traceIdHidden": "Trace",
        "spanID": "Request",
        "time": "Start",
        "name": "Name",
        "duration": "Duration",
        "gen_ai.request.model": "Model",
        "gen_ai.usage.output_tokens": "Output tokens",
        "gen_ai.response.finish_reasons": "Finish reason",
    },
    slowest="Duration",
)
_REASONING = tables.traces(
    "Longest reasoning",
    "Which requests reasoned longest? Duration is the time spent reasoning, estimated.",
    TraceQuery(
        '{resource.service.name="llmster" && resource.llmster.daemon=~"$daemon" && name="reasoning"}'
        " | select(span.daemonpulse.reasoning.tokens_estimated)",
        table="spans",
    ),
    columns={
        "traceIdHidden": "Trace",
        "spanID": "Span",
        "time": "Start",
        "name": "Phase",
        "duration": "Reasoning time",
        "daemonpulse.reasoning.tokens_estimated": "Reasoning tokens",
    },
    slowest="Reasoning time",
)

TRACES: Final = section("Traces", row(9, (14, _TRACES), (10, _REASONING)))
