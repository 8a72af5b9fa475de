"""Writes PromQL from rows of the catalogue, and refuses at build time what would be empty or wrong at query time.

Uses kinds, labels and units of the catalogue. A counter without rate, a quantile of a gauge, a label that a metric
does not have, a division of vectors that never match: each raises QueryError when the board is built.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from exporter.catalogue import Kind, Metric

TARGET_LABELS: Final = frozenset({"job", "instance"})
"""What Prometheus adds to every series it scrapes."""

RATE_INTERVAL: Final = "$__rate_interval"
RANGE: Final = "$__range"

_WINDOW: Final = re.compile(r"\$__rate_interval|\$__range|(?=[1-9])([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?")
"""Prometheus takes the larger unit first, and no window of nothing."""
_ESCAPES: Final = re.compile(r'["\\\x00-\x1f]')
_TIES: Final = {
    "*": 6,
    "/": 6,
    "+": 5,
    "-": 5,
    ">": 4,
    "<": 4,
    "==": 4,
    "and": 3,
    "unless": 3,
    "or": 2,
}
"""PromQL's precedence of operators; all of these bind to the left."""


class QueryError(ValueError):
    """An invalid query. Names the metric, the error and the fix."""


@dataclass(frozen=True, slots=True)
class Expr:
    """A PromQL expression with what is known of its result."""

    text: str
    labels: frozenset[str] | None
    """Labels of the resulting series; None for a scalar."""
    unit: str = ""
    """Base unit of the catalogue, with /s after a rate."""
    selectors: tuple[str, ...] = ()
    """The series it reads, each as an instant selector."""
    metrics: tuple[Metric, ...] = ()
    tie: int = 9
    """How firmly it holds together: 9 a call or a name, else the precedence of its outermost operator."""

    def __str__(self) -> str:
        return self.text

    def beside(self, tie: int) -> str:
        """Give the text, in parentheses where an operator of that precedence would tear it apart."""
        return self.text if self.tie >= tie else f"({self.text})"

    def __add__(self, other: Operand) -> Expr:
        return _binary(self, "+", other, unit=self.unit)

    def __sub__(self, other: Operand) -> Expr:
        return _binary(self, "-", other, unit=self.unit)

    def __rsub__(self, other: float) -> Expr:
        return replace(self, text=f"{other:g} - {self.beside(6)}", tie=5)

    def __mul__(self, other: Operand) -> Expr:
        return _binary(self, "*", other, unit="")

    def __truediv__(self, other: Operand) -> Expr:
        return _binary(self, "/", other, unit="")

    def __gt__(self, other: Operand) -> Expr:
        return _binary(self, ">", other, unit=self.unit)

    def __lt__(self, other: Operand) -> Expr:
        return _binary(self, "<", other, unit=self.unit)

    def above(self, number: float) -> Expr:
        """Say 1 where it is larger, 0 where it is not."""
        return replace(self, text=f"{self.beside(5)} > bool {number:g}", unit="", tie=4)

    def below(self, number: float) -> Expr:
        """Say 1 where it is smaller, 0 where it is not."""
        return replace(self, text=f"{self.beside(5)} < bool {number:g}", unit="", tie=4)

    def equals(self, other: Operand) -> Expr:
        """Keep the series whose value is this."""
        return _binary(self, "==", other, unit=self.unit)

    def in_unit(self, unit: str) -> Expr:
        """Say what the arithmetic has made of the unit."""
        return replace(self, unit=unit)


Operand: TypeAlias = "Expr | float | int"


def variable(name: str) -> Expr:
    """Take a number from a board's variable."""
    return Expr(f"${name}", None)


def now() -> Expr:
    """Take the time of evaluation, seconds since the epoch."""
    return Expr("time()", None, "seconds")


@dataclass(frozen=True, slots=True)
class Selector:
    """How metrics are picked: the filters that apply wherever their label exists, and the window of rates."""

    filters: Mapping[str, str] = field(default_factory=dict)
    """Regular expression or $variable by label. `instance` applies to the metrics of GPUs (gpu_) only."""
    window: str = RATE_INTERVAL

    def now(self, metric: Metric, **matchers: str) -> Expr:
        """Take a gauge as it is. A value that starts with =~, !~ or != is a matcher of that kind."""
        _require(metric, Kind.GAUGE, "a counter is read by rate() or increase(), a histogram by quantile()")
        text = self._selector(metric, metric.name, matchers)
        return self._expr(metric, text, text, metric.unit)

    def rate(self, metric: Metric, window: str = "", **matchers: str) -> Expr:
        """Take a counter's growth per second."""
        _require(metric, Kind.COUNTER, "only counters have a rate")
        return self._ranged("rate", metric, metric.name, window, matchers, unit=f"{metric.unit}/s")

    def increase(self, metric: Metric, window: str = "", **matchers: str) -> Expr:
        """Take a counter's growth over the window."""
        _require(metric, Kind.COUNTER, "only counters increase")
        return self._ranged("increase", metric, metric.name, window, matchers, unit=metric.unit)

    def newly(self, metric: Metric, window: str, **matchers: str) -> Expr:
        """Take the counter's series that grew in the window, or were born in it with a count already."""
        grown = self.increase(metric, window, **matchers)
        selector = grown.selectors[0]
        born = f"({selector} unless {selector} offset {window}) > 0"
        return replace(grown, text=f"{grown.text} > 0 or {born}", tie=2)

    def appeared(self, metric: Metric, window: str, **matchers: str) -> Expr:
        """Take the gauge's series that did not exist a window ago."""
        fresh = self.now(metric, **matchers)
        return replace(fresh, text=f"{fresh.text} unless {fresh.text} offset {window}", tie=3)

    def over(self, function: str, metric: Metric, window: str = "", **matchers: str) -> Expr:
        """Apply a function of gauges over time: avg_over_time, max_over_time, last_over_time, delta, deriv."""
        known = {"avg_over_time", "max_over_time", "min_over_time", "last_over_time", "delta", "deriv"}
        if function not in known:
            raise QueryError(f"{function}: choose one of {', '.join(sorted(known))}")
        _require(metric, Kind.GAUGE, f"{function}() is for gauges")
        unit = f"{metric.unit}/s" if function == "deriv" else metric.unit
        return self._ranged(function, metric, metric.name, window, matchers, unit=unit)

    def whole(self, metric: Metric, **matchers: str) -> Expr:
        """Take a gauge's mean over the range of the board, the same at every point of it."""
        _require(metric, Kind.GAUGE, "the mean of a counter says nothing")
        selector = self._selector(metric, metric.name, matchers)
        return self._expr(metric, f"avg_over_time({selector}[{RANGE}] @ end())", selector, metric.unit)

    def quantile(self, q: float, metric: Metric, *by: str, window: str = "", **matchers: str) -> Expr:
        """Estimate a quantile of a histogram."""
        if not 0 < q < 1:
            raise QueryError(f"{metric.name}: a quantile lies between 0 and 1, not at {q}")
        inner = sum_by(self._part(metric, "bucket", window, matchers), *by, "le")
        return replace(
            inner,
            text=f"histogram_quantile({q:g}, {inner.text})",
            tie=9,
            labels=frozenset(by),
            unit=metric.unit,
        )

    def rate_of_sum(self, metric: Metric, **matchers: str) -> Expr:
        """Take what a histogram's observations add up to, per second."""
        return self._part(metric, "sum", "", matchers).in_unit(f"{metric.unit}/s")

    def rate_of_count(self, metric: Metric, **matchers: str) -> Expr:
        """Take how many observations a histogram gains per second."""
        return self._part(metric, "count", "", matchers).in_unit("/s")

    def slower(self, metric: Metric, bound: float, *by: str, window: str = "", **matchers: str) -> Expr:
        """Take the share of a histogram's observations above one of its bounds."""
        if bound not in metric.buckets or bound == int(bound):
            # Text and OpenMetrics write whole bounds differently ("1.0", "1") from server to server.
            raise QueryError(f"{metric.name}: {bound} is no fractional bucket of {metric.buckets}")
        fast = sum_by(self._part(metric, "bucket", window, {**matchers, "le": f"{bound:g}"}), *by)
        count = sum_by(self._part(metric, "count", window, matchers), *by)
        return (1 - fast / count).in_unit("ratio")

    def above_bound(self, metric: Metric, bound: str, *by: str, window: str = "") -> Expr:
        """Take the share of a histogram's observations above a bound that a board's variable names."""
        fast = sum_by(self._part(metric, "bucket", window, {"le": bound}), *by)
        count = sum_by(self._part(metric, "count", window, {}), *by)
        return (1 - fast / count).in_unit("ratio")

    def heat(self, metric: Metric, **matchers: str) -> Expr:
        """Take a histogram's observations by bucket, for a heatmap."""
        part = self._part(metric, "bucket", "", matchers)
        grown = replace(part, text=part.text.replace("rate(", "increase(", 1), unit=metric.unit)
        return sum_by(grown, "le")

    def _part(self, metric: Metric, part: str, window: str, matchers: Mapping[str, str]) -> Expr:
        _require(metric, Kind.HISTOGRAM, "only histograms have buckets")
        expr = self._ranged("rate", metric, f"{metric.name}_{part}", window, matchers, unit=metric.unit)
        return replace(expr, labels=(expr.labels or frozenset()) | ({"le"} if part == "bucket" else set()))

    def _ranged(
        self, function: str, metric: Metric, name: str, window: str, matchers: Mapping[str, str], *, unit: str
    ) -> Expr:
        window = window or self.window
        if not _WINDOW.fullmatch(window):
            raise QueryError(f"{metric.name}: {window!r} is no window; write 5m, {RATE_INTERVAL} or {RANGE}")
        selector = self._selector(metric, name, matchers)
        return self._expr(metric, f"{function}({selector}[{window}])", selector, unit)

    def _expr(self, metric: Metric, text: str, selector: str, unit: str) -> Expr:
        return Expr(text, frozenset(metric.labels) | TARGET_LABELS, unit, (selector,), (metric,))

    def _selector(self, metric: Metric, name: str, matchers: Mapping[str, str]) -> str:
        own = set(metric.labels)
        extra = {"le"} if name.endswith("_bucket") else set()
        unknown = matchers.keys() - own - TARGET_LABELS - extra
        if unknown:
            raise QueryError(f"{metric.name} has labels {metric.labels}, not {', '.join(sorted(unknown))}")
        wanted = {
            label: f"=~{value}"
            for label, value in self.filters.items()
            if label in own or (label == "instance" and metric.name.startswith("gpu_"))
        }
        wanted |= matchers
        inside = ",".join(_matcher(label, value) for label, value in wanted.items())
        return f"{name}{{{inside}}}" if inside else name


def _matcher(label: str, value: str) -> str:
    if _ESCAPES.search(value):
        raise QueryError(
            f"{label}: {value!r} would end the string or begin an escape; write [.] for a plain dot"
        )
    for operator in ("=~", "!~", "!="):
        if value.startswith(operator):
            return f'{label}{operator}"{value.removeprefix(operator)}"'
    return f'{label}="{value}"'


def sum_by(expr: Expr, *labels: str) -> Expr:
    """Add up, one series per combination of labels; no label gives one sum."""
    return _aggregate("sum", expr, labels)


def max_by(expr: Expr, *labels: str) -> Expr:
    """Take the largest."""
    return _aggregate("max", expr, labels)


def min_by(expr: Expr, *labels: str) -> Expr:
    """Take the smallest."""
    return _aggregate("min", expr, labels)


def avg_by(expr: Expr, *labels: str) -> Expr:
    """Take the mean."""
    return _aggregate("avg", expr, labels)


def count_by(expr: Expr, *labels: str) -> Expr:
    """Count the series."""
    return _aggregate("count", expr, labels).in_unit("")


def share(part: Expr, whole: Expr) -> Expr:
    """Take a part of a whole as a ratio; both must have the same labels."""
    return (part / whole).in_unit("ratio")


def share_of_some(part: Expr, whole: Expr) -> Expr:
    """Take a share that is 0, not missing, where there is a whole and none of the part: nothing has failed yet."""
    return share(either(part, whole * 0), whole)


def both(expr: Expr, condition: Expr, *on: str) -> Expr:
    """Keep the series for which the condition has one with the same labels, or the same labels `on`."""
    return _set("and", expr, condition, on)


def unless(expr: Expr, condition: Expr, *on: str) -> Expr:
    """Drop the series for which the condition has one."""
    return _set("unless", expr, condition, on)


def either(expr: Expr, fallback: Expr) -> Expr:
    """Add the fallback's series where the first has none with the same labels."""
    _same(expr, "or", fallback)
    return _merged(expr, f"{expr.text} or {fallback.beside(3)}", fallback, 2)


def absent(expr: Expr) -> Expr:
    """Give 1 when nothing of it is there."""
    return replace(expr, text=f"absent({expr.text})", labels=frozenset(), unit="", tie=9)


def recorded(name: str, *labels: str, unit: str = "") -> Expr:
    """Read a recording rule's series."""
    if not re.fullmatch(r"[a-z_]+:[a-z][a-z0-9_]*:[a-z0-9_]+", name):
        raise QueryError(f"{name}: recording rules are named level:metric:operations")
    return Expr(name, frozenset(labels), unit, (name,))


def coded(selector: Selector, metric: Metric, states: Iterable[str], *by: str) -> Expr:
    """Turn a metric with one series per `state` into the number of the state that is 1, from 1 on; 0: none is.

    A state that an older exporter does not report takes nothing from the others.
    """
    parts = [selector.now(metric, state=state) for state in states]
    text = " or ".join(f"{number} * {part.text}" for number, part in enumerate(parts, start=1))
    selectors = tuple(selector for part in parts for selector in part.selectors)
    return _aggregate("max", replace(parts[0], text=text, selectors=selectors, unit="", tie=2), by)


def least(count: int, expr: Expr) -> Expr:
    """Keep the series with the smallest values."""
    return replace(expr, text=f"bottomk({count}, {expr.text})", tie=9)


def most(count: int, expr: Expr) -> Expr:
    """Keep the series with the largest values."""
    return replace(expr, text=f"topk({count}, {expr.text})", tie=9)


def _aggregate(function: str, expr: Expr, labels: tuple[str, ...]) -> Expr:
    _has(expr, labels)
    clause = f" by ({', '.join(labels)}) " if labels else ""
    return replace(expr, text=f"{function}{clause}({expr.text})", labels=frozenset(labels), tie=9)


def _set(operator: str, expr: Expr, condition: Expr, on: tuple[str, ...]) -> Expr:
    matching = ""
    if on:
        _has(expr, on)
        _has(condition, on)
        matching = f"on ({', '.join(on)}) "
    else:
        _same(expr, operator, condition)
    return _merged(expr, f"{expr.beside(3)} {operator} {matching}{condition.beside(4)}", condition, 3)


def _merged(expr: Expr, text: str, other: Expr, tie: int) -> Expr:
    return replace(
        expr,
        text=text,
        selectors=expr.selectors + other.selectors,
        metrics=expr.metrics + other.metrics,
        tie=tie,
    )


def _binary(left: Expr, operator: str, right: Operand, *, unit: str) -> Expr:
    tie = _TIES[operator]
    if not isinstance(right, Expr):
        number = f"{right:.0f}" if right == int(right) else f"{right:g}"
        text = f"{left.beside(tie)} {operator} {number}"
        return replace(left, text=text, unit=left.unit if unit else "", tie=tie)
    _same(left, operator, right)
    labels = left.labels if left.labels is not None else right.labels
    text = f"{left.beside(tie)} {operator} {right.beside(tie + 1)}"
    return replace(_merged(left, text, right, tie), labels=labels, unit=unit)


def _same(left: Expr, operator: str, right: Expr) -> None:
    if left.labels is None or right.labels is None:
        return
    if left.labels != right.labels:
        raise QueryError(
            f"{left.text} {operator} {right.text}: labels {sorted(left.labels)} never match "
            f"{sorted(right.labels)}; aggregate both to the same"
        )


def _has(expr: Expr, labels: Iterable[str]) -> None:
    missing = set(labels) - (expr.labels or frozenset())
    if missing:
        raise QueryError(
            f"{expr.text} has no label {', '.join(sorted(missing))}, only {sorted(expr.labels or ())}"
        )


def _require(metric: Metric, kind: Kind, why: str) -> None:
    if metric.kind is not kind:
        raise QueryError(f"{metric.name} is a {metric.kind}: {why}")
