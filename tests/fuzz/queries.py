"""Target: queries written from rows of the catalogue.

Knows PromQL's rules of thumb: what kind a function is for and which labels a row has. Whether the text parses is for
promtool to say, whom test_promtool.py asks about a sample of what is written here.
"""

import re
from collections.abc import Callable
from typing import Final

from dashboards.kit import promql
from dashboards.kit.promql import Expr, Operand, QueryError, Selector
from exporter.catalogue import CATALOGUE, Kind, Metric
from tests.fuzz.choices import Choices

_LABELS: Final = tuple(
    sorted({label for row in CATALOGUE for label in row.labels} | {"job", "instance", "le", "nobody"})
)
_VALUES: Final = (
    "x",
    "=~a|b",
    "!=x",
    "!~x.*",
    "",
    "$daemon",
    'a"b',
    "a\\b",
    "a\nb",
    "=~a\\.b",
    "\u00e9",
    "}",
)
_WINDOWS: Final = (
    "",
    "5m",
    "1h30m",
    "$__rate_interval",
    "$__range",
    "5",
    "m",
    "5m or x",
    "-5m",
    "0s",
    "30m1h",
    "5mm",
    "5m\n",
)
_ROWS: Final = tuple(CATALOGUE)
_UNQUOTED: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"')


def expression(choices: Choices, depth: int = 3) -> Expr:
    """Write one query of whatever is possible. Raises QueryError."""
    if depth == 0 or choices.upto(2) == 0:
        return _leaf(choices)
    left = expression(choices, depth - 1)
    return choices.pick(_COMBINED)(choices, left, depth)


def _leaf(choices: Choices) -> Expr:
    filters = {choices.pick(_LABELS): choices.pick(_VALUES[:6]) for _ in range(choices.upto(2))}
    window = "" if choices.flag() else choices.pick(_WINDOWS)
    selector = Selector(filters, "5m")
    row = choices.pick(_ROWS)
    known = row.labels or ("job",)
    matchers = {
        choices.pick(_LABELS if choices.rarely() else known): choices.pick(_VALUES)
        for _ in range(choices.upto(1))
    }
    by = choices.some(row.labels or ("job",), 2) if not choices.rarely() else [choices.pick(_LABELS)]
    readers: tuple[tuple[Kind, Callable[[], Expr]], ...] = (
        (Kind.GAUGE, lambda: selector.now(row, **matchers)),
        (Kind.COUNTER, lambda: selector.rate(row, window, **matchers)),
        (Kind.COUNTER, lambda: selector.increase(row, window, **matchers)),
        (Kind.COUNTER, lambda: selector.newly(row, window or "5m", **matchers)),
        (
            Kind.GAUGE,
            lambda: selector.over(choices.pick(("max_over_time", "deriv")), row, window or "5m", **matchers),
        ),
        (Kind.HISTOGRAM, lambda: selector.quantile(0.95, row, *dict.fromkeys(by), window=window, **matchers)),
        (Kind.HISTOGRAM, lambda: selector.rate_of_sum(row, **matchers)),
        (Kind.HISTOGRAM, lambda: selector.heat(row, **matchers)),
        (
            Kind.HISTOGRAM,
            lambda: selector.slower(row, choices.pick((*row.buckets, 0.3)), window=window, **matchers),
        ),
    )
    kind, read = choices.pick(readers)
    aggregates = kind is Kind.HISTOGRAM
    try:
        found = read()
    except QueryError:
        return _refused(row)
    assert row.kind is kind, f"{found} reads {row.name}, a {row.kind}"
    foreign = matchers.keys() - set(row.labels) - {"job", "instance"} - ({"le"} if aggregates else set())
    assert not foreign, f"{found}: {row.name} has no label {foreign}"
    for used in re.findall(r"\[(.*?)\]", _UNQUOTED.sub("", found.text), re.DOTALL):
        assert used in ("5m", "1h30m", "$__rate_interval", "$__range"), f"{found}: {used!r} is no window"
    return found


def _refused(row: Metric) -> Expr:
    """Take the plain form of a row, after another one was refused."""
    selector = Selector({}, "5m")
    if row.kind is Kind.GAUGE:
        return selector.now(row)
    return selector.rate(row) if row.kind is Kind.COUNTER else selector.rate_of_sum(row)


def _aggregated(choices: Choices, left: Expr, _depth: int) -> Expr:
    labels = choices.some(tuple(sorted(left.labels or ())) or ("job",), 2)
    if choices.rarely():
        labels = [choices.pick(_LABELS)]
    function = choices.pick((promql.sum_by, promql.max_by, promql.min_by, promql.avg_by, promql.count_by))
    found = function(left, *dict.fromkeys(labels))
    assert found.labels == frozenset(labels), found
    assert frozenset(labels) <= (left.labels or frozenset()), (
        f"{found} keeps labels that {left} does not have"
    )
    return found


def _calculated(choices: Choices, left: Expr, depth: int) -> Expr:
    number = choices.pick((0, 1, -1, 0.5, 1000, 1e-9, 1e12, 3.14159, -0.25))
    right: Operand = number if choices.flag() else promql.now()
    if choices.flag():
        right = expression(choices, depth - 1)
    calculate: Callable[[], Expr] = choices.pick(
        (
            lambda: left + right,
            lambda: left - right,
            lambda: left * right,
            lambda: left / right,
            lambda: left > right,
            lambda: left < right,
            lambda: left.equals(right),
            lambda: 1 - left,
        )
    )
    found = calculate()
    if (
        isinstance(right, Expr)
        and None not in (left.labels, right.labels)
        and not found.text.startswith("1 - ")
    ):
        assert left.labels == right.labels, f"{found} never matches anything"
    return found


def _joined(choices: Choices, left: Expr, depth: int) -> Expr:
    right = expression(choices, depth - 1)
    shared = tuple(sorted((left.labels or frozenset()) & (right.labels or frozenset())))
    on = tuple(dict.fromkeys(choices.some(shared, 2))) if shared else ()
    combine: Callable[[], Expr] = choices.pick(
        (
            lambda: promql.both(left, right, *on),
            lambda: promql.unless(left, right, *on),
            lambda: promql.either(left, right),
            lambda: promql.share_of_some(left, right),
            lambda: promql.absent(left),
        )
    )
    return combine()


_COMBINED: Final = (_aggregated, _calculated, _joined)


def queries(choices: Choices) -> None:
    """A wrong kind, label or window is refused; what is written has its quotes and brackets closed, and one line."""
    try:
        found = expression(choices)
    except QueryError as error:
        assert str(error), "a refusal that says nothing"  # noqa: PT017 - both ways out are right
        return
    text = found.text
    assert "\n" not in text, repr(text)
    bare = _UNQUOTED.sub("", text)
    assert '"' not in bare, f"a quote is left open: {text}"
    for opens, closes in ("()", "{}", "[]"):
        assert bare.count(opens) == bare.count(closes), text
    assert "\\" not in bare, text
    assert found.selectors or found.labels is None, text
