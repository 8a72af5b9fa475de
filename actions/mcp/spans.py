"""The two spans of a call by OpenTelemetry's semantic conventions for MCP: SERVER towards the daemon, CLIENT upstream.

Does not depend on an exporter. Spans hold no arguments and no results.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from opentelemetry.context import attach, detach
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from actions.mcp.policy.rules import Kind, PolicyResult, Subject
from actions.mcp.upstream.connection import upstream_request
from actions.mcp.upstream.server import Upstream
from actions.mcp.upstream.spec import Http, Stdio
from exporter.shared.urls import port_of

METHODS: Final[Mapping[Kind, str]] = {
    "tool": "tools/call",
    "prompt": "prompts/get",
    "resource": "resources/read",
}
_W3C: Final = TraceContextTextMapPropagator()
_TARGETS: Final[Mapping[Kind, str]] = {"tool": "gen_ai.tool.name", "prompt": "gen_ai.prompt.name"}
_NAME_CHARS: Final = 200


@contextmanager
def remote_parent(meta: Mapping[str, Any] | None) -> Iterator[None]:
    """Make the trace that a request's `_meta` names, if it does, the parent of the spans made meanwhile.

    Source: SEP-414, W3C Trace Context in `_meta`.
    """
    if not meta or not isinstance(meta.get("traceparent"), str):
        yield
        return
    state = meta.get("tracestate")
    named = {"traceparent": meta["traceparent"], "tracestate": state if isinstance(state, str) else ""}
    token = attach(_W3C.extract(named))
    try:
        yield
    finally:
        detach(token)


@contextmanager
def server_span(tracer: Tracer | None, subject: Subject, about: Mapping[str, str]) -> Iterator[Span]:
    """Open the SERVER span of a received request; `about` holds the attributes of its transport. No tracer, no work."""
    if tracer is None:
        yield INVALID_SPAN
        return
    with tracer.start_as_current_span(
        _name(subject),
        kind=SpanKind.SERVER,
        attributes={**_attributes(subject), **about},
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        yield span


@contextmanager
def client_span(tracer: Tracer | None, subject: Subject, upstream: Upstream) -> Iterator[Span]:
    """Open the CLIENT span of the upstream request."""
    if tracer is None:
        yield INVALID_SPAN
        return
    with tracer.start_as_current_span(
        _name(subject),
        kind=SpanKind.CLIENT,
        attributes={
            **_attributes(subject),
            **_network(upstream.spec.reach),
            "daemonpulse.mcp.server": subject.server,
        },
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        token = upstream_request.set(span)
        try:
            yield span
        finally:
            upstream_request.reset(token)
            if (version := upstream.protocol_version) is not None:
                span.set_attribute("mcp.protocol.version", version)
            if (session := upstream.session_id) is not None:
                span.set_attribute("mcp.session.id", session)


def set_outcome(span: Span, outcome: str, code: int | None = None) -> None:
    """Set the outcome; all but `done` are errors. `code` is that of an error of the tool server."""
    if outcome == "done":
        return
    span.set_attribute("error.type", outcome if code is None else str(code))
    span.set_status(Status(StatusCode.ERROR, outcome))
    if code is not None:
        span.set_attribute("rpc.response.status_code", str(code))


def set_decision(
    span: Span,
    subject: Subject,
    policy_result: PolicyResult,
    outcome: str,
    arguments_digest: str,
    *,
    code: int | None = None,
) -> None:
    """Set decision and outcome on the SERVER span."""
    if not span.is_recording():
        return
    span.set_attributes(
        {
            "daemonpulse.mcp.server": subject.server,
            "daemonpulse.mcp.decision": policy_result.decision.value,
            "daemonpulse.mcp.rule": policy_result.rule,
            "daemonpulse.mcp.outcome": outcome,
            "daemonpulse.mcp.arguments_digest": arguments_digest,
        }
    )
    set_outcome(span, outcome, code)


def _network(reach: Stdio | Http) -> dict[str, str | int]:
    """Return the attributes of the transport to a tool server."""
    if isinstance(reach, Stdio):
        return {"network.transport": "pipe"}
    parts = urlsplit(reach.url)
    return {
        "network.transport": "tcp",
        "server.address": parts.hostname or "",
        "server.port": port_of(parts),
    }


def _name(subject: Subject) -> str:
    """Return the span name: method and target. Resource URIs are left out, because their number is unbounded."""
    method = METHODS[subject.kind]
    return f"{method} {subject.name[:_NAME_CHARS]}" if subject.kind in _TARGETS else method


def _attributes(subject: Subject) -> dict[str, str]:
    found = {"mcp.method.name": METHODS[subject.kind]}
    if subject.kind == "tool":
        found["gen_ai.operation.name"] = "execute_tool"
    if subject.kind in _TARGETS:
        found[_TARGETS[subject.kind]] = subject.name[:_NAME_CHARS]
    else:
        found["mcp.resource.uri"] = subject.name[:_NAME_CHARS]
    return found
