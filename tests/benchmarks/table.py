"""The table that benchmarks fill: what, ours, what it is measured against in the same run, ratio, goal.

Knows no benchmark. A ratio is always one of costs, so that more is always worse: 1.3 is 30 % dearer than the floor.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

HEAD: Final = f"{'what':<52}{'ours':>17}  {'against, in the same run':<31}{'':>13}{'ratio':>6}  goal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line. A unit that begins with a slash is a rate, of which more is better; any other is a cost."""

    what: str
    ours: float
    unit: str
    against: str = ""
    floor: float | None = None
    """What it is measured against, in the same unit and the same run."""
    goal: float | None = None
    """For `ours`: at least for a rate, at most for a cost."""
    ratio_goal: float | None = None
    """For the ratio, at most."""

    @property
    def is_rate(self) -> bool:
        """Whether more is better."""
        return self.unit.startswith("/")

    @property
    def ratio(self) -> float | None:
        """How many times the cost of the floor ours is; None without a floor."""
        if not self.floor or not self.ours:
            return None
        return self.floor / self.ours if self.is_rate else self.ours / self.floor

    @property
    def verdict(self) -> str:
        """The goal and whether it was met in this run; empty without one."""
        if self.goal is not None:
            met = self.ours >= self.goal if self.is_rate else self.ours <= self.goal
            sign = ">=" if self.is_rate else "<="
            return f"{sign} {number(self.goal)} {self.unit} {'met' if met else 'MISSED'}"
        if self.ratio_goal is not None and self.ratio is not None:
            return (
                f"ratio <= {number(self.ratio_goal)} {'met' if self.ratio <= self.ratio_goal else 'MISSED'}"
            )
        return ""

    def line(self) -> str:
        """Write the row under HEAD."""
        floor = number(self.floor) if self.floor is not None else ""
        ratio = f"{self.ratio:.2f}" if self.ratio is not None else ""
        return (
            f"{self.what:<52}{number(self.ours) + ' ' + self.unit:>17}  {self.against:<31}{floor:>13}{ratio:>6}"
            f"  {self.verdict}"
        ).rstrip()


def curve(what: str, unit: str, per: str, costs: Iterable[tuple[int, float]]) -> Iterable[Row]:
    """Make a row per size of what one more unit costs, beside the size before: above 1 the curve bends upwards.

    `costs` are (size, cost of the whole). One unit costs whatever there is to pay anyway as well, so a healthy curve
    falls and then stays level.
    """
    before: tuple[int, float] | None = None
    for size, cost in costs:
        each = cost / size
        yield Row(
            what=f"{what}, {size:,}",
            ours=each,
            unit=f"{unit}/{per}",
            against=f"at {before[0]:,}" if before else "",
            floor=before[1] if before else None,
            ratio_goal=CURVE_GOAL if before else None,
        )
        before = size, each


CURVE_GOAL: Final = 1.25
"""What a unit may cost at ten times the size, noise included, before we say that the curve bends."""


def number(value: float) -> str:
    """Write a number with three digits that mean something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
