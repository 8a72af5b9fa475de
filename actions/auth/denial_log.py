"""Writes denials to the audit log, sampled: every denial is counted, the number of rows is limited.

Unauthenticated callers share one budget; each token has its own. A row says how many denials before it were only
counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from actions.domain.actor import Actor
from actions.domain.rate_limit import Buckets
from actions.metrics import Metrics
from actions.store.audit import Audit
from exporter.catalogue import actions as rows

UNAUTHENTICATED: Final = "unauthenticated"
_BURST: Final = 30
_REFILL_S: Final = 20.0
"""One more row after so long: at most 4,350 rows a day for each budget."""
_MAX_OWNERS: Final = 4096


class DenialLog:
    """The denials of one service. `clock` is monotonic, in seconds."""

    def __init__(self, audit: Audit, metrics: Metrics, *, clock: Callable[[], float]) -> None:
        self._audit = audit
        self._metrics = metrics
        self._budgets = Buckets(_BURST, _REFILL_S, clock)
        self._only_counted: Counter[str] = Counter()

    async def record(
        self, actor: Actor, action: str, subject: str, reason: str, *, is_authenticated: bool
    ) -> None:
        """Write a denial, or only count it where the budget of its owner is used up. Raises StorageFailed."""
        owner = actor.owner if is_authenticated else UNAUTHENTICATED
        if self._budgets.of(owner).take() > 0:
            self._metrics.count(rows.AUDIT_DENIALS_SAMPLED)
            if owner in self._only_counted or len(self._only_counted) < _MAX_OWNERS:
                self._only_counted[owner] += 1
            return
        detail: dict[str, Any] = {"reason": reason}
        skipped = self._only_counted.pop(owner, 0)
        if skipped:
            detail["denials_not_recorded"] = skipped
        await self._audit.record("denied", actor=actor, action=action, subject=subject, detail=detail)
