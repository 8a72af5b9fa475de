"""The tap's data of a request: a report when it has ended, and an entry of the live list while it runs.

These cross from the tap's process to the exporter's as JSON. They hold counts, times and names, and never content, a
key or a prompt.
"""

from __future__ import annotations

import msgspec

from exporter.pipeline.output.segments import Kind
from exporter.tap.routes import PREDICT


class PhaseMark(msgspec.Struct, frozen=True, gc=False):
    """One stretch of what the model wrote, as it arrived."""

    kind: Kind
    start_s: float
    end_s: float
    """Both from the moment the request was accepted. The end is the start of the next stretch, or the last delta."""
    tokens: int
    """Deltas that held text; on a WebSocket the tokens that fragments state. Assumed: else as a rule one token each."""
    chars: int


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Token counts as the daemon's answer states them. None: it did not."""

    input: int | None = None
    output: int | None = None
    reasoning: int | None = None
    cached: int | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One request that is over."""

    id: int
    """Counts up from 1 in one life of the tap."""
    client: str
    route: str
    """A route of the daemon's API, or a group of them: bounded, see tap/routes.py."""
    method: str
    model: str
    """As the answer names it, else as the request does; "" when neither did."""
    status: int | None
    """Of HTTP; None when no answer came."""
    is_prediction: bool
    """Whether the route lets a model write, and the daemon began to."""
    start_ns: int
    """Unix time at which the request's head was complete."""
    e2e_s: float
    """From then to the last byte of the answer."""
    queue_s: float | None = None
    """From then to the first event or byte of the answer's body."""
    ttft_s: float | None = None
    """From then to the first delta with text; None when the answer came in one piece."""
    phases: tuple[PhaseMark, ...] = ()
    usage: Usage = Usage()
    gaps: tuple[int, ...] = ()
    """Times between two deltas, counted by the buckets of the metric and one for the rest."""
    gaps_s: float = 0.0
    """Their sum."""
    cancelled: bool = False
    """The client went away, or cancelled, before the answer was complete."""
    cut: bool = False
    """The daemon's side ended before the answer was complete."""
    error: str | None = None
    """Type of an error the answer states, made safe for a label."""
    finish: str | None = None
    """Why the model stopped, in the words of the API."""
    tools: tuple[str, ...] = ()
    ending: int = 0
    """Checksum of the last 64 characters of the text, pipeline/output/ending.py; 0 where it is not known."""
    trace_id: str | None = None
    parent_id: str | None = None
    """Of the caller's span (W3C `traceparent`), in hexadecimal."""
    is_sampled: bool = True

    @property
    def end_ns(self) -> int:
        """Unix time of the last byte."""
        return self.start_ns + round(self.e2e_s * 1e9)

    @property
    def tokens(self) -> int:
        """Tokens that were delivered, by deltas."""
        return sum(phase.tokens for phase in self.phases)

    @property
    def reasoning_share(self) -> float | None:
        """Share of the written tokens that are reasoning, 0 to 1; None where the daemon does not count them apart.

        It does in `usage`, and in the fragments of a WebSocket. Deltas elsewhere may hold several tokens.
        """
        if self.usage.reasoning is not None and self.usage.output:
            return min(1.0, self.usage.reasoning / self.usage.output)
        if not self.tokens or self.route != PREDICT:
            return None
        return sum(phase.tokens for phase in self.phases if phase.kind is Kind.REASONING) / self.tokens


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """One request in flight."""

    id: int
    client: str
    route: str
    model: str
    phase: str
    """waiting, prefill, reasoning, answer or tool_call."""
    tokens: int
    tokens_per_s: float | None
    """Since the first one."""
    elapsed_s: float
    start_ns: int


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of the tap to its reader."""

    boot: str
    """Names this life of the tap: ids start again with another one."""
    next_id: int
    """Ask for reports from here on next time."""
    missed: int
    """Reports between what was asked for and the first one here, which were given up."""
    reports: tuple[Report, ...]
    live: tuple[Live, ...]
    """The oldest first, at most MAX_LIVE."""
    running: dict[str, int]
    """Requests in flight by client, all of them."""
    counts: dict[str, int]
    """Counters and gauges of the tap itself, by name."""


MAX_LIVE = 200
