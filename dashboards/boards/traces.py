"""The section of Pulse about single requests: slow ones, those that reasoned longest, the turns of a conversation."""

from __future__ import annotations

from typing import Final

from dashboards.kit import tables
from dashboards.kit.board import row, section
from dashboards.kit.tables import Column
from dashboards.kit.targets import TraceQuery
from dashboards.kit.variables import Variable

SLOW: Final = Variable(
    "slow",
    "Slow from",
    "custom",
    "1s,2s,5s,10s,30s,60s",
    default="5s",
    about="Requests that took at least this are listed under Traces.",
)
CONVERSATION: Final = Variable(
    "conversation",
    "Conversation",
    "textbox",
    default=".+",
    about="Id of a conversation, whose turns are listed under Traces. .+ lists the turns of all.",
)

_REQUEST: Final = (
    'resource.service.name="llmster" && resource.llmster.daemon=~"$daemon"'
    ' && span.gen_ai.request.model=~"$model"'
)
_MODEL: Final = Column("gen_ai.request.model", "Model")
_STARTED: Final = Column("time", "Start", width=164)
_TOOK: Final = Column("duration", "Duration", unit="ns", width=95)
_ID: Final = Column("spanID", "Request", width=124)
_REASONED: Final = Column(
    "daemonpulse.reasoning.seconds_estimated", "Reasoning time", unit="s", decimals=1, width=134
)
_TTFT: Final = Column("gen_ai.latency.time_to_first_token", "TTFT", unit="s", decimals=2, width=95)
_WRITTEN: Final = Column("gen_ai.usage.output_tokens", "Output tokens", decimals=0, width=115)
_ENDED: Final = Column("gen_ai.response.finish_reasons", "Finish reason", width=110)
_TURN: Final = Column("daemonpulse.conversation.turn", "Turn", decimals=0, width=60)
_CONVERSATION: Final = Column(
    "gen_ai.conversation.id",
    "Conversation",
    width=150,
    link="daemonpulse-pulse?var-conversation=${__value.raw}",
)

_TRACES = tables.traces(
    "Slow requests",
    "Which requests took longest? The id opens the trace. Its phases differ by name: Grafana colours by service.",
    TraceQuery(f"{{{_REQUEST} && duration >= $slow}}", "spans"),
    columns=(_ID, _MODEL, _TOOK, _TTFT, _REASONED, _WRITTEN, _STARTED),
    largest="Duration",
)
_REASONING = tables.traces(
    "Longest reasoning",
    "Which requests reasoned longest? Estimated.",
    TraceQuery(f"{{{_REQUEST} && span.daemonpulse.reasoning.seconds_estimated > 0.0}}", "spans"),
    columns=(_ID, _MODEL, _REASONED),
    largest="Reasoning time",
)
_TURNS = tables.traces(
    "Agent turns",
    "Which turns has a conversation? Its id keeps only its turns; each trace has a link to the turn before.",
    TraceQuery(f'{{{_REQUEST} && span.gen_ai.conversation.id=~"$conversation"}}', "spans"),
    columns=(_ID, _CONVERSATION, _TURN, _MODEL, _TOOK, _TTFT, _REASONED, _WRITTEN, _ENDED, _STARTED),
    largest="Start",
)

TRACES: Final = section("Traces", row(9, (16, _TRACES), (8, _REASONING)), row(9, (24, _TURNS)))
