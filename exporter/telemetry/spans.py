"""A prediction as a trace: the request, its queue and prefill, and each stretch of reasoning, answer and tool call.

Names follow OpenTelemetry's GenAI conventions (SCHEMA), as constants; docs/TRACES.md lists where spans deviate. Other
names begin with `daemonpulse.` or `llmster.`. Times inside the decode phase are split by characters and marked
`daemonpulse.timing=estimated`, but for what the tap saw arrive (`exact`). Estimates stay out of `gen_ai.usage.*`, which
only the daemon's counts may fill.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from exporter.llmster.events import RuntimeLog, ServerLog
from exporter.pipeline.operations import Operation
from exporter.pipeline.output.segments import Kind
from exporter.pipeline.phases import Phase
from exporter.pipeline.predictions import FinishedReason, Prediction, Timing, child_span_id
from exporter.telemetry import content
from exporter.telemetry.batch_queue import BatchQueue
from exporter.telemetry.content import Capture

SCHEMA: Final = "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev"
"""Of the GenAI conventions, which have a repository of their own since v1.41."""
SCOPE: Final = InstrumentationScope("daemonpulse", metadata.version("daemonpulse"), SCHEMA)
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
PROVIDER: Final = "lmstudio"
_NS: Final = 1_000_000_000
SHORTEST_QUEUE_NS: Final = 100_000_000
"""A shorter wait may be the passing on of a request on a busy host, and no queue."""
_OK: Final = Status(StatusCode.UNSET)

Attributes = dict[str, str | bool | int | float | Sequence[str]]


class SpanSink:
    """Hands predictions to the queue; spans are built by its worker, off the event loop."""

    name = "spans"

    def __init__(self, queue: BatchQueue[Prediction | Operation]) -> None:
        self._queue = queue

    def take_prediction(self, prediction: Prediction) -> None:
        """Queue a prediction; all its spans leave together or not at all."""
        size = len(prediction.prompt or "") + len(prediction.output or "")
        self._queue.put(prediction, weight=span_count(prediction), size_bytes=size)

    def take_operation(self, operation: Operation) -> None:
        """Queue a request that wrote no text."""
        self._queue.put(operation)

    def take_log(self, _event: ServerLog | RuntimeLog) -> None:
        """Log lines are not spans."""


def span_count(prediction: Prediction) -> int:
    """Return how many spans build() makes of a prediction."""
    if prediction.start_ns is None or (prediction.duration_s is None and prediction.first_token_ns is None):
        return 1
    return 2 + len(prediction.phases) + (_queued_ns(prediction, prediction.start_ns) > 0)


@dataclass(frozen=True, slots=True)
class Style:
    """What spans of requests are made to look like."""

    capture: Capture = Capture.OFF
    kind: SpanKind = SpanKind.SERVER
    server_of: Callable[[str], tuple[str, int] | None] = lambda _daemon: None
    """Gives the address and port of a daemon by name."""


def operation_span(
    operation: Operation, resource_of: Callable[[str], Resource], style: Style
) -> ReadableSpan:
    """Make the span of a request that wrote no text."""
    attributes: Attributes = {
        "gen_ai.operation.name": operation.name,
        "gen_ai.provider.name": PROVIDER,
        "daemonpulse.timing": Timing.EXACT.value,
        **_server(style, operation.daemon),
    }
    optional: dict[str, str | int | None] = {
        "gen_ai.request.model": operation.model or None,
        "gen_ai.usage.input_tokens": operation.input_tokens,
        "daemonpulse.client": operation.client,
        "error.type": operation.error,
    }
    attributes.update({key: value for key, value in optional.items() if value is not None})
    return ReadableSpan(
        name=f"{operation.name} {operation.model}".rstrip(),
        context=SpanContext(operation.trace_id, operation.span_id, is_remote=False, trace_flags=_SAMPLED),
        parent=_parent(operation),
        resource=resource_of(operation.daemon),
        attributes=attributes,
        kind=style.kind,
        status=Status(StatusCode.ERROR, operation.error) if operation.error else _OK,
        start_time=operation.start_ns,
        end_time=max(operation.start_ns, operation.end_ns),
        instrumentation_scope=SCOPE,
    )


def build(
    prediction: Prediction, resource_of: Callable[[str], Resource], style: Style | None = None
) -> list[ReadableSpan]:
    """Make the spans of a prediction, the root first. Ids are the prediction's own, so a replay repeats them."""
    style = style or Style()
    context = SpanContext(prediction.trace_id, prediction.span_id, is_remote=False, trace_flags=_SAMPLED)
    start_ns = prediction.end_ns if prediction.start_ns is None else prediction.start_ns
    failed = prediction.finished_reason is FinishedReason.ERROR
    root = ReadableSpan(
        name=f"chat {prediction.model}",
        context=context,
        parent=_parent(prediction),
        resource=resource_of(prediction.daemon),
        attributes=_root_attributes(prediction, style),
        links=_links(prediction),
        kind=style.kind,
        status=Status(StatusCode.ERROR, prediction.stop_reason) if failed else _OK,
        start_time=start_ns,
        end_time=max(start_ns, prediction.end_ns),
        instrumentation_scope=SCOPE,
    )
    if span_count(prediction) == 1:
        return [root]
    queued_ns = _queued_ns(prediction, start_ns)
    taken_ns = start_ns + queued_ns
    first_token_ns = prediction.first_token_ns
    if first_token_ns is None:
        first_token_ns = start_ns + round((prediction.time_to_first_token_s or 0.0) * _NS)

    def before_first_token(index: int, name: str, start_ns: int, end_ns: int) -> ReadableSpan:
        return _child(prediction, root, index, name=name, start_ns=start_ns, end_ns=end_ns, attributes={})

    children = [before_first_token(0, "prefill", taken_ns, first_token_ns)]
    if queued_ns:
        children.insert(0, before_first_token(len(prediction.phases) + 1, "queue", start_ns, taken_ns))
    for index, phase in enumerate(prediction.phases, start=1):
        begin_ns = first_token_ns + round((phase.offset_s or 0.0) * _NS)
        children.append(
            _child(
                prediction,
                root,
                index,
                name=_phase_name(phase),
                start_ns=begin_ns,
                end_ns=begin_ns + round((phase.duration_s or 0.0) * _NS),
                attributes=_phase_attributes(prediction, phase),
            )
        )
    return [root, *children]


def _queued_ns(prediction: Prediction, start_ns: int) -> int:
    """Return for how long a request waited before its prefill; 0 where that cannot be told.

    The tap sees when a request came and when its first token left, the daemon tells its own time to first token.
    Assumed: that begins when a slot takes the request, as llama-server's does. Were it to begin with the request, the
    two would agree, and there would be no wait to show.
    """
    if prediction.first_token_ns is None or prediction.time_to_first_token_s is None:
        return 0
    waited_ns = prediction.first_token_ns - start_ns - round(prediction.time_to_first_token_s * _NS)
    return waited_ns if waited_ns >= SHORTEST_QUEUE_NS else 0


def _child(
    prediction: Prediction,
    root: ReadableSpan,
    index: int,
    *,
    name: str,
    start_ns: int,
    end_ns: int,
    attributes: Attributes,
) -> ReadableSpan:
    # The parts must lie inside the whole: roundings are clamped, because receivers accept a span that ends outside.
    start_ns = min(start_ns, prediction.end_ns)
    end_ns = min(max(start_ns, end_ns), prediction.end_ns)
    return ReadableSpan(
        name=name,
        context=SpanContext(
            prediction.trace_id, child_span_id(prediction, index), is_remote=False, trace_flags=_SAMPLED
        ),
        parent=root.context,
        resource=root.resource,
        attributes={"daemonpulse.timing": prediction.timing.value, **attributes},
        kind=SpanKind.INTERNAL,
        status=_OK,
        start_time=start_ns,
        end_time=end_ns,
        instrumentation_scope=SCOPE,
    )


def _server(style: Style, daemon: str) -> Attributes:
    server = style.server_of(daemon)
    return {} if server is None else {"server.address": server[0], "server.port": server[1]}


def _root_attributes(prediction: Prediction, style: Style) -> Attributes:
    capture = style.capture
    attributes: Attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": prediction.model,
        "gen_ai.response.model": prediction.model,
        "gen_ai.response.finish_reasons": (content.finish_reason(prediction.finished_reason),),
        "llmster.instance_id": prediction.model,
        "daemonpulse.timing": prediction.timing.value,
        "daemonpulse.paired": prediction.paired,
        **_server(style, prediction.daemon),
    }
    optional: dict[str, str | int | float | None] = {
        "gen_ai.usage.input_tokens": prediction.prompt_tokens,
        "gen_ai.usage.output_tokens": prediction.predicted_tokens,
        "gen_ai.usage.cache_read.input_tokens": prediction.cached_tokens,
        "gen_ai.response.time_to_first_chunk": prediction.time_to_first_token_s,
        "gen_ai.latency.time_to_first_token": prediction.time_to_first_token_s,
        "gen_ai.latency.e2e": prediction.duration_s,
        "gen_ai.conversation.id": prediction.conversation_id,
        "daemonpulse.conversation.turn": prediction.turn if prediction.conversation_id else None,
        "daemonpulse.reasoning.tokens_estimated": prediction.reasoning_tokens_estimated,
        "daemonpulse.reasoning.seconds_estimated": prediction.reasoning_s,
        "daemonpulse.client": prediction.client,
        "daemonpulse.energy.joules": prediction.energy_joules,
        "llmster.stop_reason": prediction.stop_reason,
        "llmster.draft.tokens": prediction.draft_tokens,
        "llmster.draft.accepted_tokens": prediction.draft_tokens_accepted,
        "error.type": prediction.stop_reason if prediction.finished_reason is FinishedReason.ERROR else None,
    }
    attributes.update({key: value for key, value in optional.items() if value is not None})
    if capture is not Capture.OFF and prediction.output is not None:
        attributes["gen_ai.output.messages"] = content.messages(prediction, capture)
        if prediction.prompt is not None:
            # The templated prompt, not messages: the conventions have no name for it.
            text = content.prepared(prediction.prompt, capture)
            attributes["daemonpulse.prompt"] = content.cut(text, content.ATTRIBUTE_BYTES)
    return attributes


def _parent(prediction: Prediction | Operation) -> SpanContext | None:
    """Give the caller's span, where the request named one."""
    if prediction.parent_span_id is None:
        return None
    return SpanContext(prediction.trace_id, prediction.parent_span_id, is_remote=True, trace_flags=_SAMPLED)


def _links(prediction: Prediction) -> tuple[Link, ...]:
    if prediction.previous is None:
        return ()
    turn = prediction.previous.turn
    context = SpanContext(turn.trace_id, turn.span_id, is_remote=True, trace_flags=_SAMPLED)
    return (
        Link(
            context,
            {"daemonpulse.link": "previous_turn", "daemonpulse.link.exact": prediction.previous.exact},
        ),
    )


def _phase_name(phase: Phase) -> str:
    return f"tool_call {phase.tools[0]}" if phase.kind is Kind.TOOL_CALL and phase.tools else phase.kind.value


def _phase_attributes(prediction: Prediction, phase: Phase) -> Attributes:
    attributes: Attributes = {"daemonpulse.phase": phase.kind.value, "daemonpulse.share": phase.share}
    if phase.kind is Kind.TOOL_CALL and phase.tools:
        attributes["gen_ai.tool.name"] = phase.tools[0]
        attributes["daemonpulse.tools"] = phase.tools
    if phase.kind is Kind.REASONING and prediction.predicted_tokens is not None:
        tokens = round(prediction.predicted_tokens * phase.share)
        attributes["daemonpulse.reasoning.tokens_estimated"] = tokens
    return attributes
