"""When what failed may be tried again: ever more slowly, by a monotonic clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from actions.domain.timeouts import Timeouts


@dataclass(slots=True)
class _Retry:
    not_before: float
    wait_s: float


class Retries:
    """Remembers failures by name."""

    def __init__(self, timeouts: Timeouts, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeouts = timeouts
        self._clock = clock
        self._failed: dict[Hashable, _Retry] = {}

    def may_try(self, name: Hashable) -> bool:
        """Whether nothing failed under this name, or that is long enough ago."""
        retry = self._failed.get(name)
        return retry is None or self._clock() >= retry.not_before

    def failed(self, name: Hashable) -> None:
        """Note a failure: the next try may come after twice the time of the last."""
        retry = self._failed.get(name)
        wait_s = retry.wait_s if retry is not None else self._timeouts.retry_first_s
        self._failed[name] = _Retry(self._clock() + wait_s, min(2 * wait_s, self._timeouts.retry_most_s))

    def succeeded(self, name: Hashable) -> None:
        """Forget the failures under a name."""
        self._failed.pop(name, None)

    def clear(self) -> None:
        """Forget every failure."""
        self._failed.clear()
