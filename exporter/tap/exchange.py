"""One request and its response as they pass through the tap, from the head of the request to the end of the response.

Does not depend on the connection: its reader passes the parts. Clocks are injected.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from exporter.pipeline.output.segments import Kind
from exporter.tap.meter import Meter
from exporter.tap.report import Live, Report

_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


@dataclass(frozen=True, slots=True)
class Clocks:
    """The clocks."""

    monotonic: Callable[[], float] = time.monotonic
    """Seconds, for durations."""
    unix_ns: Callable[[], int] = time.time_ns


class Exchange:
    """A request in flight. The reader of the response fills `meter`."""

    def __init__(
        self,
        number: int,
        *,
        client: str,
        route: str,
        method: str,
        clocks: Clocks,
        gap_bounds: Sequence[float],
        custom_tags: tuple[tuple[str, str], ...] = (),
        traceparent: str = "",
        predicts: bool,
    ) -> None:
        self.number = number
        self.client = client
        self.route = route
        self.method = method if method in _METHODS else "other"
        self.model = ""
        """As the request names it."""
        self.status: int | None = None
        self.predicts = predicts
        self.cancelled = False
        """Cancelled by a message on a connection that stays open."""
        self.meter = Meter(gap_bounds, custom_tags)
        self._clocks = clocks
        self._started_s = clocks.monotonic()
        self._start_ns = clocks.unix_ns()
        parsed = _TRACEPARENT.fullmatch(traceparent.strip())
        self._trace = parsed if parsed and int(parsed[1], 16) and int(parsed[2], 16) else None

    @property
    def elapsed_s(self) -> float:
        """Since the request was accepted."""
        return self._clocks.monotonic() - self._started_s

    def live(self) -> Live:
        """Describe it as it is now."""
        meter, elapsed_s = self.meter, self.elapsed_s
        writing_s = 0.0 if meter.first_s is None else elapsed_s - meter.first_s
        return Live(
            id=self.number,
            client=self.client,
            route=self.route,
            model=meter.model or self.model,
            phase=self._phase(),
            tokens=meter.tokens,
            tokens_per_s=(meter.tokens - 1) / writing_s if writing_s > 0 and meter.tokens > 1 else None,
            elapsed_s=elapsed_s,
            start_ns=self._start_ns,
        )

    def _phase(self) -> str:
        kind: Kind | None = self.meter.kind
        if kind is not None:
            return kind.value
        return "waiting" if self.meter.queue_s is None else "prefill"

    def report(self, *, cancelled: bool = False, cut: bool = False) -> Report:
        """End it. Called once."""
        meter, trace = self.meter, self._trace
        phases = meter.phases()
        written = meter.tokens > 0 or meter.usage.output is not None
        return Report(
            id=self.number,
            client=self.client,
            route=self.route,
            method=self.method,
            model=meter.model or self.model,
            status=self.status,
            is_prediction=self.predicts and written,
            start_ns=self._start_ns,
            e2e_s=self.elapsed_s,
            queue_s=meter.queue_s,
            ttft_s=meter.first_s,
            phases=phases,
            usage=meter.usage,
            gaps=tuple(meter.gaps) if meter.tokens else (),
            gaps_s=meter.gaps_s,
            cancelled=cancelled or self.cancelled,
            cut=cut,
            error=meter.error,
            finish=meter.finish,
            tools=tuple(meter.tools),
            ending=meter.ending,
            trace_id=trace[1] if trace else None,
            parent_id=trace[2] if trace else None,
            is_sampled=trace is None or bool(int(trace[3], 16) & 1),
        )
