"""Converts the samples of a scrape to OTLP metrics data, under their own and the conventions' names. Pure.

Cumulative. Names keep their unit and lose `_total`, so that Prometheus' OTLP receiver, which adds what is missing,
gives them the names that a scrape has.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.samples import Sample

from exporter.catalogue import BY_NAME, actions, energy, hardware, log_stream, mcp
from exporter.catalogue.metric import Metric as Row
from exporter.telemetry.spans import PROVIDER

GEN_AI_SCHEMA: Final = "https://opentelemetry.io/schemas/1.37.0"
"""Of the conventions' names below: `gen_ai.server.*` (Development) and `hw.*` (Development)."""

_UCUM: Final = {
    "seconds": "s",
    "bytes": "By",
    "ratio": "1",
    "celsius": "Cel",
    "watts": "W",
    "joules": "J",
    "hertz": "Hz",
}
"""Units as OTLP writes them; others are annotations, `{tokens}`."""


@dataclass(frozen=True, slots=True)
class Convention:
    """A name of OpenTelemetry's conventions for a catalogued metric.

    `attributes` renames labels; the others keep their names, so that no two series become one. `fixed` are attributes
    with one value.
    """

    row: Row
    name: str
    unit: str
    attributes: Mapping[str, str]
    fixed: Mapping[str, str]


_MODEL: Final = {"model": "gen_ai.request.model", "daemon": "llmster.daemon"}
_CHAT: Final = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": PROVIDER}
_MCP: Final = {
    "mcp_method_name": "mcp.method.name",
    "error_type": "error.type",
    "server": "daemonpulse.mcp.server",
}
_GPU: Final = {"gpu": "hw.id"}

CONVENTIONS: Final = (
    Convention(log_stream.TTFT, "gen_ai.server.time_to_first_token", "s", _MODEL, _CHAT),
    Convention(log_stream.PER_TOKEN, "gen_ai.server.time_per_output_token", "s", _MODEL, _CHAT),
    Convention(log_stream.E2E, "gen_ai.server.request.duration", "s", _MODEL, _CHAT),
    Convention(hardware.MEMORY_USED, "hw.gpu.memory.usage", "By", _GPU, {}),
    Convention(hardware.MEMORY_TOTAL, "hw.gpu.memory.limit", "By", _GPU, {}),
    Convention(hardware.UTILIZATION, "hw.gpu.utilization", "1", _GPU, {"hw.gpu.task": "general"}),
    Convention(hardware.ENCODER, "hw.gpu.utilization", "1", _GPU, {"hw.gpu.task": "encoder"}),
    Convention(hardware.DECODER, "hw.gpu.utilization", "1", _GPU, {"hw.gpu.task": "decoder"}),
    Convention(hardware.POWER, "hw.power", "W", _GPU, {"hw.type": "gpu"}),
    Convention(energy.GPU, "hw.energy", "J", _GPU, {"hw.type": "gpu"}),
    Convention(mcp.SERVER_OPERATION_DURATION, "mcp.server.operation.duration", "s", _MCP, {}),
)
_ROWS: Final = {**BY_NAME, **{row.name: row for row in (*actions.ROWS, *mcp.ROWS)}}
"""Of the exporter and of the actions API, which push in the same way."""


def metrics_data(
    families: Iterable[Family], *, resource: Resource, version: str, start_ns: int, now_ns: int
) -> MetricsData:
    """Convert a scrape. `start_ns` is when counting began: the start of the process, Unix time in nanoseconds."""
    found = {family.name: family for family in families}
    metrics = [
        Metric(
            family.name,
            family.documentation,
            _unit(_ROWS.get(family.name) or _ROWS.get(f"{family.name}_total")),
            _data(family.type, _points(family, start_ns, now_ns)),
        )
        for family in found.values()
    ]
    scope = InstrumentationScope("daemonpulse", version, GEN_AI_SCHEMA)
    return MetricsData(
        [
            ResourceMetrics(
                resource,
                [ScopeMetrics(scope, [*metrics, *_conventions(found, start_ns, now_ns)], GEN_AI_SCHEMA)],
                resource.schema_url,
            )
        ]
    )


def points_of(data: MetricsData) -> int:
    """Count the data points."""
    return sum(
        len(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )


def _conventions(found: Mapping[str, Family], start_ns: int, now_ns: int) -> Iterator[Metric]:
    """Give the conventions' metrics: one for each name, also where several rows feed it."""
    points: dict[str, list[Any]] = defaultdict(list)
    kinds: dict[str, tuple[str, str, str]] = {}
    for convention in CONVENTIONS:
        family = found.get(convention.row.name.removesuffix("_total"))
        if family is None:
            continue
        kinds[convention.name] = (family.type, convention.unit, family.documentation)
        for point in _points(family, start_ns, now_ns):
            kept = {
                convention.attributes.get(label, label): value
                for label, value in point.attributes.items()
                if value
            }
            points[convention.name].append(_with(point, {**kept, **convention.fixed}))
    for name, (kind, unit, documentation) in kinds.items():
        yield Metric(name, documentation, unit, _data(kind, points[name]))


def _with(point: Any, attributes: dict[str, str]) -> Any:
    return type(point)(
        **{name: getattr(point, name) for name in point.__dataclass_fields__} | {"attributes": attributes}
    )


def _unit(row: Row | None) -> str:
    if row is None or not row.unit:
        return ""
    return _UCUM.get(row.unit, f"{{{row.unit}}}")


def _data(kind: str, points: list[Any]) -> Sum | Gauge | Histogram:
    if kind == "histogram":
        return Histogram(points, AggregationTemporality.CUMULATIVE)
    if kind == "counter":
        return Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True)
    return Gauge(points)


def _points(family: Family, start_ns: int, now_ns: int) -> list[Any]:
    if family.type == "histogram":
        return list(_histogram_points(family.samples, start_ns, now_ns))
    begin_ns = start_ns if family.type == "counter" else 0
    return [NumberDataPoint(dict(sample.labels), begin_ns, now_ns, sample.value) for sample in family.samples]


def _histogram_points(samples: Iterable[Sample], start_ns: int, now_ns: int) -> Iterator[HistogramDataPoint]:
    """Gather `_bucket`, `_sum` and `_count` by labels; buckets are cumulative in Prometheus and apart in OTLP."""
    buckets: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = defaultdict(list)
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in samples:
        key = tuple((label, value) for label, value in sample.labels.items() if label != "le")
        if sample.name.endswith("_bucket"):
            buckets[key].append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_sum"):
            sums[key] = sample.value
    for key, found in buckets.items():
        found.sort()
        cumulative = [round(count) for _, count in found]
        counts = [count - before for before, count in zip([0, *cumulative], cumulative, strict=False)]
        yield HistogramDataPoint(
            dict(key),
            start_ns,
            now_ns,
            count=cumulative[-1],
            sum=sums.get(key, 0.0),
            bucket_counts=counts,
            explicit_bounds=[bound for bound, _ in found[:-1]],
            min=None,  # type: ignore[arg-type] # optional in OTLP, and not known of a cumulative histogram
            max=None,  # type: ignore[arg-type]
        )
