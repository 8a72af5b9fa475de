"""Pure: shares the energy of GPUs among the requests that ran on them; what is left is idle.

Does not depend on clocks, readings or metrics. Energy comes as intervals, requests as changes of how many run. Within
an interval energy is taken to flow evenly, and at every moment it is shared evenly among all requests on the GPU:
every joule is either some model's or idle, so the parts always add up to the whole.

A request's own joules are what one running request was given while it ran: the difference of a curve that grows by
energy / requests. Where nothing told that a request ran (engines that log no slots) its energy is still unclaimed when
it has ended; it then takes what lies unclaimed in its time. Unclaimed energy becomes idle after HOLD_S.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

HOLD_S: Final = 30.0
"""How long energy stays unclaimed, for requests that only their end tells of."""
MOST_POINTS: Final = 8192
"""Of a GPU's curve: two hours of one reading a second. What a request that began before has used is not known."""
MOST_UNCLAIMED: Final = 4096

Model = tuple[str, str]
"""Daemon and model key."""


@dataclass(slots=True)
class _Piece:
    """Energy of a time in which no request was known to run."""

    from_s: float
    until_s: float
    joules: float


@dataclass(slots=True)
class _Gpu:
    running: dict[Model, int] = field(default_factory=dict)
    changes: list[tuple[float, dict[Model, int]]] = field(default_factory=list)
    """What ran before each change since the last interval ended."""
    joules: defaultdict[Model, float] = field(default_factory=lambda: defaultdict(float))
    idle_joules: float = 0.0
    unclaimed: deque[_Piece] = field(default_factory=deque)
    times_s: list[float] = field(default_factory=list)
    curve: list[float] = field(default_factory=list)
    """Joules that one running request would have been given, at each of `times_s`."""


class EnergyLedger:
    """Keeps the books of all GPUs of a host. Times are Unix seconds and may not go back by more than a jitter."""

    def __init__(self, *, hold_s: float | None = None) -> None:
        """Begin empty; `hold_s` stands in for HOLD_S."""
        self._hold_s = HOLD_S if hold_s is None else hold_s
        self._gpus: dict[int, _Gpu] = {}
        self._where: dict[Model, frozenset[int]] = {}

    def set_running(self, model: Model, gpus: Collection[int], requests: int, at_s: float) -> None:
        """Say how many requests of a model run from now on, and on which GPUs: each uses all of them."""
        wanted = frozenset(gpus) if requests > 0 else frozenset()
        for gpu in wanted | self._where.get(model, frozenset()):
            account = self._gpus.setdefault(gpu, _Gpu())
            count = requests if gpu in wanted else 0
            if account.running.get(model, 0) == count:
                continue
            account.changes.append((at_s, dict(account.running)))
            if count:
                account.running[model] = count
            else:
                del account.running[model]
        if wanted:
            self._where[model] = wanted
        else:
            self._where.pop(model, None)

    def add(self, gpu: int, from_s: float, until_s: float, joules: float) -> None:
        """Enter the energy of one interval, which must last. Intervals of a GPU follow each other, or leave a gap."""
        account = self._gpus.setdefault(gpu, _Gpu())
        if account.times_s and account.times_s[-1] < from_s:
            # A gap: what was used before it says nothing of now.
            account.times_s.clear()
            account.curve.clear()
        for piece, running in _pieces(account, from_s, until_s, joules):
            self._enter(account, piece, running)
        account.changes = [change for change in account.changes if change[0] > until_s]
        self._settle(account, until_s)

    def claim(self, model: Model, gpus: Collection[int], start_s: float, end_s: float) -> float | None:
        """Tell the joules of one request that has ended; what lies unclaimed in its time becomes its model's.

        None where energy is not known for all of its time: the curve begins later, or has not come so far.
        """
        joules = 0.0
        for gpu in gpus:
            account = self._gpus.get(gpu)
            if account is None or not account.times_s:
                return None
            if account.times_s[0] > start_s or account.times_s[-1] < end_s:
                return None
        for gpu in gpus:
            account = self._gpus[gpu]
            joules += _at(account, end_s) - _at(account, start_s)
            for piece in account.unclaimed:
                overlap_s = min(piece.until_s, end_s) - max(piece.from_s, start_s)
                if overlap_s > 0 and piece.joules > 0:
                    taken = piece.joules * overlap_s / (piece.until_s - piece.from_s)
                    piece.joules -= taken
                    account.joules[model] += taken
                    joules += taken
        return joules if gpus else None

    def known_until_s(self, gpus: Collection[int]) -> float | None:
        """Tell up to when the energy of all these GPUs is known; None when that of one is not."""
        ends = [account.times_s[-1] for gpu in gpus if (account := self._gpus.get(gpu)) and account.times_s]
        return min(ends) if ends and len(ends) == len(gpus) else None

    def joules(self) -> Mapping[tuple[int, Model], float]:
        """Energy by GPU and model since the beginning."""
        return {
            (gpu, model): joules
            for gpu, account in self._gpus.items()
            for model, joules in account.joules.items()
        }

    def idle_joules(self) -> Mapping[int, float]:
        """Energy by GPU in which no request ran; lags by HOLD_S."""
        return {gpu: account.idle_joules for gpu, account in self._gpus.items() if account.times_s}

    def settle(self) -> None:
        """Make everything that is still unclaimed idle."""
        for account in self._gpus.values():
            self._settle(account, float("inf"))

    @staticmethod
    def _enter(account: _Gpu, piece: _Piece, running: Mapping[Model, int]) -> None:
        if not account.times_s:
            _append(account, piece.from_s, 0.0)
        requests = sum(running.values())
        for model, count in running.items():
            account.joules[model] += piece.joules * count / requests
        if not requests:
            account.unclaimed.append(piece)
        _append(account, piece.until_s, piece.joules / requests if requests else 0.0)

    def _settle(self, account: _Gpu, now_s: float) -> None:
        unclaimed = account.unclaimed
        while unclaimed and (unclaimed[0].until_s <= now_s - self._hold_s or len(unclaimed) > MOST_UNCLAIMED):
            account.idle_joules += unclaimed.popleft().joules


def _pieces(
    account: _Gpu, from_s: float, until_s: float, joules: float
) -> list[tuple[_Piece, Mapping[Model, int]]]:
    """Cut an interval where the number of requests changed; changes before it count as of its beginning."""
    pieces: list[tuple[_Piece, Mapping[Model, int]]] = []
    at_s = from_s
    for changed_s, running in [*account.changes, (until_s, account.running)]:
        end_s = min(max(changed_s, at_s), until_s)
        if end_s > at_s:
            share = joules * (end_s - at_s) / (until_s - from_s)
            pieces.append((_Piece(at_s, end_s, share), running))
        if end_s == until_s:
            break
        at_s = end_s
    return pieces


def _append(account: _Gpu, at_s: float, joules: float) -> None:
    if len(account.times_s) >= 2 * MOST_POINTS:
        del account.times_s[:MOST_POINTS], account.curve[:MOST_POINTS]
    account.times_s.append(at_s)
    account.curve.append((account.curve[-1] if account.curve else 0.0) + joules)


def _at(account: _Gpu, at_s: float) -> float:
    """Read the curve, which has begun by then, between its points."""
    after = bisect_right(account.times_s, at_s)
    if after == len(account.times_s):
        return account.curve[-1]
    before_s, after_s = account.times_s[after - 1], account.times_s[after]
    low, high = account.curve[after - 1], account.curve[after]
    return low + (high - low) * (at_s - before_s) / (after_s - before_s)
