"""Simulate graphics cards: memory per process, load, heat and power as functions of virtual time.

Knows no models or daemons: a process is a pid with so many bytes, and load is told from outside.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmster_sim.models.load_config import Split

_MIB = 1024 * 1024
# Time for a card to cover 63 % of the way to its new temperature. Assumed: a two-slot air-cooled card.
_HEAT_TIME_S = 45.0
_AMBIENT_C = 31.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CardSpec:
    """What the maker prints on the box. Source of name and size of the first: a recorded surveyHardware."""

    name: str
    vendor: str
    total_bytes: int
    idle_w: float
    max_w: float
    full_load_c: float
    compute: str


SPECS = (
    CardSpec(
        name="NVIDIA GeForce RTX 4090",
        vendor="nvidia",
        total_bytes=25_757_220_864,
        idle_w=24.0,
        max_w=450.0,
        full_load_c=74.0,
        compute="8.9",
    ),
    CardSpec(
        name="AMD Radeon RX 7700 XT",
        vendor="amd",
        total_bytes=12_884_901_888,
        idle_w=16.0,
        max_w=245.0,
        full_load_c=72.0,
        compute="11.0",
    ),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CardReading:
    """What a management library would report of one card at one instant."""

    index: int
    name: str
    vendor: str
    total_bytes: int
    used_bytes: int
    utilization: float
    temperature_c: float
    power_w: float
    processes: tuple[tuple[int, int], ...]


class Card:
    """One card; heat follows load with a delay, so readings depend only on the history of loads."""

    __slots__ = ("_at_s", "_temperature_c", "index", "load", "processes", "spec")

    def __init__(self, *, index: int, spec: CardSpec) -> None:
        self.index = index
        self.spec = spec
        self.processes: dict[int, int] = {}
        self.load = 0.0
        self._at_s = 0.0
        self._temperature_c = self._target_c()

    @property
    def used_bytes(self) -> int:
        """Bytes taken by every process, ours and foreign."""
        return sum(self.processes.values())

    @property
    def free_bytes(self) -> int:
        """Bytes a new process could still allocate."""
        return self.spec.total_bytes - self.used_bytes

    def _target_c(self) -> float:
        return _AMBIENT_C + 8.0 + (self.spec.full_load_c - _AMBIENT_C - 8.0) * self.load

    def set_load(self, *, load: float, now_s: float) -> None:
        """Change the load (0..1) from now on."""
        self._settle(now_s)
        self.load = min(1.0, max(0.0, load))

    def _settle(self, now_s: float) -> None:
        share = math.exp(-max(0.0, now_s - self._at_s) / _HEAT_TIME_S)
        target_c = self._target_c()
        self._temperature_c = target_c + (self._temperature_c - target_c) * share
        self._at_s = now_s

    def read(self, now_s: float) -> CardReading:
        """Report the card as it is at `now_s`."""
        self._settle(now_s)
        return CardReading(
            index=self.index,
            name=self.spec.name,
            vendor=self.spec.vendor,
            total_bytes=self.spec.total_bytes,
            used_bytes=self.used_bytes,
            utilization=self.load,
            temperature_c=round(self._temperature_c, 1),
            power_w=round(self.spec.idle_w + (self.spec.max_w - self.spec.idle_w) * self.load, 1),
            processes=tuple(sorted(self.processes.items())),
        )


class Cards:
    """The cards of one machine, and the placing of a process over them by split strategy."""

    def __init__(self, *, count: int) -> None:
        self.all = tuple(Card(index=index, spec=SPECS[min(index, len(SPECS) - 1)]) for index in range(count))

    def add_foreign(self, *, pid: int, index: int, size_bytes: int) -> None:
        """Let a process that is not the daemon's take memory; the daemon's guardrail does not see it."""
        self.all[index].processes[pid] = size_bytes

    def release(self, pid: int) -> None:
        """Free whatever the process holds on any card."""
        for card in self.all:
            card.processes.pop(pid, None)

    def usable(self, split: Split) -> list[Card]:
        """Cards the split allows, in the order it wants them filled."""
        allowed = [card for card in self.all if card.index not in split.disabled]
        rank = {index: position for position, index in enumerate(split.priority)}
        return sorted(allowed, key=lambda card: (rank.get(card.index, len(rank)), card.index))

    def place(self, *, pid: int, size_bytes: int, split: Split) -> bool:
        """Allocate `size_bytes` for `pid`; False, and nothing taken, when it does not fit."""
        cards = self.usable(split)
        if size_bytes == 0:
            return True
        shares = _shares(cards=cards, size_bytes=size_bytes, split=split)
        if shares is None:
            return False
        for card, share in zip(cards, shares, strict=True):
            if share:
                card.processes[pid] = share
        return True

    def read(self, now_s: float) -> tuple[CardReading, ...]:
        """Report every card."""
        return tuple(card.read(now_s) for card in self.all)


def _shares(*, cards: Sequence[Card], size_bytes: int, split: Split) -> list[int] | None:
    """Bytes per card. Assumed: what a share cannot hold spills to the next card with room."""
    if split.strategy == "priorityOrder" or len(cards) <= 1:
        weights = [1.0] + [0.0] * (len(cards) - 1)
    elif split.strategy == "custom" and split.ratio:
        weights = [split.ratio[card.index] if card.index < len(split.ratio) else 0.0 for card in cards]
    else:
        weights = [1.0] * len(cards)
    total = sum(weights)
    if not cards or total <= 0:
        return None
    shares = [
        min(card.free_bytes, int(size_bytes * weight / total))
        for card, weight in zip(cards, weights, strict=True)
    ]
    left = size_bytes - sum(shares)
    for position, card in enumerate(cards):
        room = min(left, card.free_bytes - shares[position])
        shares[position] += room
        left -= room
    return shares if left == 0 else None


def mebibytes(count: int) -> int:
    """Bytes in `count` MiB."""
    return count * _MIB
