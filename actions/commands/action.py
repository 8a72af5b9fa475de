"""The interface of an action: facts for the decision, run, and recover after a restart.

registry.py lists the actions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from actions.commands.daemon_session import DaemonSession
from actions.commands.recovery import Recovery
from actions.domain.command import Command
from actions.domain.evidence import Evidence
from actions.domain.policy import Facts
from actions.domain.timeouts import Timeouts
from actions.metrics import Metrics
from actions.store.operations import Operation, Operations

Result = Mapping[str, Any]
C = TypeVar("C", bound=Command)


@dataclass(frozen=True, slots=True)
class Tools:
    """What the actions of one daemon work with."""

    daemon: DaemonSession
    operations: Operations
    suspend: Callable[[str, str | None], Awaitable[None]]
    """Takes a daemon and an instance (None: every one) that must not come back by itself. Raises StorageFailed."""
    metrics: Metrics
    timeouts: Timeouts
    recovery: Recovery


class Action(ABC, Generic[C]):
    """One kind of command on one daemon. Everything raises Problem, Cancelled, LlmsterError or StorageFailed."""

    COMMAND: ClassVar[type[Command]]
    EVIDENCE: ClassVar[Evidence]
    """What it needs of the daemon's answers to decide, to act and to say that it is done."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self.daemon = tools.daemon

    @abstractmethod
    async def facts(self, command: C) -> Facts:
        """Read what the decision needs. Raises Problem for invalid parameters."""

    async def before_intent(self, command: C) -> None:
        """Do what must be on disk before the intent is. Raises StorageFailed."""

    def begun(self, operation: Operation) -> None:
        """React to the intent, before the operation runs."""

    @abstractmethod
    async def run(self, operation: Operation, command: C, facts: Facts) -> Result:
        """Carry it out: every call that changes the daemon once; a lost answer is looked up, never guessed."""

    @abstractmethod
    async def recover(self, operation: Operation, command: C) -> Result:
        """Find out what became of it after a restart of the service. Nothing is done again."""

    def cancel_refusal(self, operation: Operation) -> str | None:
        """Say why an operation under way cannot be cancelled; None when it can."""
        return operation.command.NOT_CANCELLABLE

    def finished(self, operation: Operation) -> None:
        """React to the outcome, for metrics of its own."""
