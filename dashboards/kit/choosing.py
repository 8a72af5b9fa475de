"""PromQL that chooses: the first expression that has an answer, one series of many, a host's for its daemons.

Does not know metrics or what is chosen.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

from dashboards.kit.promql import Expr, QueryError


def first_of(exprs: Sequence[Expr], *on: str) -> Expr:
    """Take, for each value of the labels `on`, the first expression that has series with it. Raises QueryError."""
    for expr in exprs:
        if missing := set(on) - (expr.labels or frozenset()):
            raise QueryError(f"{expr.text} has no label {', '.join(sorted(missing))}")

    def or_else(first: Expr, then: Expr) -> Expr:
        return replace(
            first,
            text=f"{first.text} or on ({', '.join(on)}) {then.beside(3)}",
            labels=(first.labels or frozenset()) | (then.labels or frozenset()),
            selectors=first.selectors + then.selectors,
            metrics=first.metrics + then.metrics,
            tie=2,
        )

    return functools.reduce(or_else, exprs)


def largest(expr: Expr, *by: str) -> Expr:
    """Keep one series, the one with the largest value, for each value of the labels."""
    return replace(expr, text=f"topk by ({', '.join(by)}) (1, {expr.text})", tie=9)


def spread(expr: Expr, over: Expr, *on: str) -> Expr:
    """Give each series of `over` the value and the labels of the largest series of `expr` with the same labels `on`."""
    one = largest(expr, *on)
    brought = sorted((expr.labels or frozenset()) - (over.labels or frozenset()))
    return replace(
        expr,
        text=f"0 * {over.beside(6)} + on ({', '.join(on)}) group_left ({', '.join(brought)}) {one.text}",
        labels=(expr.labels or frozenset()) | (over.labels or frozenset()),
        selectors=expr.selectors + over.selectors,
        metrics=expr.metrics + over.metrics,
        tie=5,
    )
