"""Recording rules: expressions that alerts and boards share, named level:metric:operations.

Does not depend on rule files; `groups` writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from dashboards.kit.promql import Expr, QueryError, Selector, either, recorded, share, share_of_some, sum_by
from dashboards.kit.theme import Json
from exporter.catalogue import Metric
from exporter.catalogue import hardware as h
from exporter.catalogue import log_stream as s
from exporter.catalogue import tap as t

_P: Final = Selector(window="5m")

WINDOWS: Final = ("5m", "30m", "1h", "6h")
"""Pairs of a long and a short window, as multi-window burn rates want them: 1h with 5m, 6h with 30m."""

TTFT_S: Final = 2.5
TPOT_S: Final = 0.1
"""What a request may take without counting against its objective. 0.1 s per token is 10 tokens per second, about as
fast as people read."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording rule."""

    name: str
    expr: Expr
    labels: tuple[str, ...]
    fixed: Mapping[str, str] = field(default_factory=dict)
    """Labels that the rule itself sets."""

    def __post_init__(self) -> None:
        """Refuse a name that Prometheus' practice would not recognize, or labels it does not have."""
        recorded(self.name)
        has = (self.expr.labels or frozenset()) | self.fixed.keys()
        if frozenset(self.labels) != has:
            raise QueryError(f"{self.name}: has labels {sorted(has)}, not {self.labels}")

    @property
    def series(self) -> Expr:
        """What the rule records, to be used in another rule."""
        return recorded(self.name, *self.labels, unit=self.expr.unit)

    def only(self, **matchers: str) -> Expr:
        """Read what the rule records where labels match the regular expressions. Raises QueryError."""
        if unknown := matchers.keys() - set(self.labels):
            raise QueryError(f"{self.name} has no label {', '.join(sorted(unknown))}")
        inside = ",".join(f'{label}=~"{value}"' for label, value in matchers.items())
        return replace(self.series, text=f"{self.name}{{{inside}}}")

    def to_json_data(self) -> Json:
        """Write the rule."""
        labels = {"labels": dict(self.fixed)} if self.fixed else {}
        return {"record": self.name, "expr": self.expr.text, **labels}


FAILED: Final = "error"
TOLD: Final = "!=unknown"
"""The error rate, everywhere: requests that ended in error, of all whose end the daemon tells. An abort is the
client's. A daemon that sends no stats with an output does not tell how it ended; that is no error."""


def error_rate(selector: Selector, *by: str, window: str = "") -> Expr:
    """Take the share of requests that ended in error, 0 to 1."""
    return share_of_some(
        sum_by(selector.rate(s.REQUESTS, window, finished_reason=FAILED), *by),
        sum_by(selector.rate(s.REQUESTS, window, finished_reason=TOLD), *by),
    )


def _slow(metric: Metric, bound: float) -> dict[str, Recording]:
    return {
        window: Recording(
            f"daemon:{metric.name}_slow:ratio_rate{window}",
            _P.slower(metric, bound, "daemon", window=window),
            ("daemon",),
        )
        for window in WINDOWS
    }


TTFT_SLOW: Final = _slow(s.TTFT, TTFT_S)
TPOT_SLOW: Final = _slow(s.PER_TOKEN, TPOT_S)

ON_TIME: Final = 0.95
"""The share of requests that must keep to the objectives of TTFT and of TPOT."""
SUCCEEDED: Final = 0.99
"""The share of requests that must end without an error."""

ERRORS: Final = {
    window: Recording(
        f"daemon:llmster_requests_failed:ratio_rate{window}",
        error_rate(_P, "daemon", window=window),
        ("daemon",),
    )
    for window in WINDOWS
}

_MODEL: Final = ("daemon", "model")
GPU: Final = ("instance", "gpu")
"""What tells a GPU from all others."""
THROTTLED: Final = "=~hw_slowdown|hw_thermal_slowdown|sw_thermal_slowdown|hw_power_brake_slowdown"
"""Throttle reasons that are faults: heat and power brake."""

PREDICTIONS: Final = (
    Recording(
        "daemon_model:llmster_generation_tokens:rate5m", sum_by(_P.rate(s.GENERATION_TOKENS), *_MODEL), _MODEL
    ),
    Recording("daemon_model:llmster_prompt_tokens:rate5m", sum_by(_P.rate(s.PROMPT_TOKENS), *_MODEL), _MODEL),
    Recording("daemon_model:llmster_requests:rate5m", sum_by(_P.rate(s.REQUESTS), *_MODEL), _MODEL),
    Recording(
        "daemon_model:llmster_requests_failed:ratio_rate5m",
        error_rate(_P, *_MODEL),
        _MODEL,
    ),
    Recording(
        "daemon_model:llmster_time_to_first_token_seconds:p95_rate5m",
        _P.quantile(0.95, s.TTFT, *_MODEL),
        _MODEL,
    ),
    Recording(
        "daemon_model:llmster_e2e_request_latency_seconds:p95_rate5m",
        _P.quantile(0.95, s.E2E, *_MODEL),
        _MODEL,
    ),
)

_CLIENT: Final = ("daemon", "client", "type")
CLIENTS: Final = (
    Recording(
        "daemon_client:daemonpulse_tap_tokens:increase1d",
        sum_by(_P.increase(t.TOKENS, "1d"), *_CLIENT),
        _CLIENT,
    ),
)
"""What a budget is held against; docs/TAP.md has an alert as an example."""

_LOOSE: Final = sum_by(_P.now(h.UNATTRIBUTED_VRAM), *GPU)
_ATTRIBUTED: Final = sum_by(_P.now(h.INSTANCE_VRAM), *GPU)

FOREIGN: Final = Recording(
    "instance_gpu:gpu_process_memory_bytes:foreign",
    # Unattributed memory is 0, not absent, wherever a daemon's processes can be seen; elsewhere no process is
    # foreign.
    (sum_by(_P.now(h.PROCESS_MEMORY), *GPU) - _LOOSE - either(_ATTRIBUTED, _LOOSE * 0)).in_unit("bytes"),
    GPU,
)
GPUS: Final = (
    Recording(
        "instance_gpu:gpu_memory_used:ratio",
        share(sum_by(_P.now(h.MEMORY_USED), *GPU), sum_by(_P.now(h.MEMORY_TOTAL), *GPU)),
        GPU,
    ),
    FOREIGN,
    Recording("instance:gpu_power_watts:sum", sum_by(_P.now(h.POWER), "instance"), ("instance",)),
)

LOADED: Final = Recording("daemonpulse:rules:loaded", Expr("vector(1)", frozenset()), ())
"""Tells a board that no alert fires from a Prometheus that was given no rules."""
