"""Finds the outcome of a command whose response was lost: a socket broke, it cannot be read, or a program restarted.

It reads the daemon, and returns done or raises the Problem that means failed. It never repeats a call that changes
anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from actions.commands.daemon_session import UNREADABLE, DaemonSession
from actions.domain.command import Load
from actions.domain.errors import Problem
from actions.domain.timeouts import Timeouts, sleep_unless
from actions.store.operations import Operation
from actions.store.sizes import mark
from exporter.llmster import rest
from exporter.llmster.errors import (
    ConnectionLost,
    DaemonStalled,
    DaemonUnreachable,
    LlmsterError,
    ProtocolViolation,
)
from exporter.llmster.state import InstanceInfo, Snapshot

REST_TIMEOUT_S: Final = 5.0
MISSES: Final = 2
"""A load counts as abandoned after so many readings in a row without it."""
LOST: Final = (ConnectionLost, DaemonStalled, DaemonUnreachable, ProtocolViolation)
"""What leaves open whether the daemon has done it: no answer came, or none that can be read."""


def noted(instances: Iterable[InstanceInfo]) -> dict[str, str]:
    """Write down instances, name by reference, so that they are known again after a restart of this service."""
    return {mark(info.instance_reference): mark(info.identifier) for info in instances}


class Recovery:
    """Looks at one daemon."""

    def __init__(self, daemon: DaemonSession, timeouts: Timeouts) -> None:
        self._daemon = daemon
        self._timeouts = timeouts

    async def loaded(
        self, operation: Operation, command: Load, *, cause: LlmsterError | None
    ) -> InstanceInfo:
        """Find out whether a load finished; waits for the daemon, and while it is still loading.

        The daemon continues a load whose client disconnected. Raises Problem.
        """
        because = f" ({cause})" if cause is not None else ""
        misses = 0
        deadline = time.monotonic() + self._timeouts.load_s
        while time.monotonic() < deadline:
            snapshot = await self.look(operation)
            if snapshot is not None:
                if snapshot.process.pid not in {None, operation.before.get("pid")}:
                    raise Problem(
                        "interrupted", f"the daemon restarted while {command.subject} was loading{because}"
                    )
                found = self.new_instance((one.info for one in snapshot.instances), command, operation.before)
                if found is not None:
                    return found
                # An instance that could not be read may be the one that was loaded.
                is_open = snapshot.unreadable_instances or await self._is_loading(command) is not False
                misses = 0 if is_open else misses + 1
                if misses >= MISSES:
                    raise Problem(
                        "interrupted", f"the daemon did not finish loading {command.subject}{because}"
                    )
            await sleep_unless(operation.cancel, self._timeouts.poll_s)
        raise Problem("timeout", f"what became of {command.subject} was not found out{because}")

    async def given_up(
        self, operation: Operation, command: Load, *, is_confirmed: bool
    ) -> InstanceInfo | None:
        """Find out what a cancelled load came to: its instance where it ended all the same, None where it is given up.

        `is_confirmed` is the daemon's word, which counts where nothing shows otherwise. Raises Problem when it goes on,
        or nothing is known.
        """
        operation.phase, operation.progress = "cancelling", None
        misses, goes_on = 0, False
        deadline = time.monotonic() + self._timeouts.verify_s
        while time.monotonic() < deadline:
            with contextlib.suppress(Problem):
                snapshot = await self._daemon.snapshot()
                if snapshot.process.pid not in {None, operation.before.get("pid")}:
                    return None
                found = self.new_instance((one.info for one in snapshot.instances), command, operation.before)
                if found is not None:
                    return found
                loading = await self._is_loading(command)
                goes_on = loading is True
                is_over = not snapshot.unreadable_instances and (
                    is_confirmed if loading is None else not loading
                )
                misses = misses + 1 if is_over else 0
                if misses >= MISSES:
                    return None
            await asyncio.sleep(self._timeouts.poll_s)
        told = "goes on" if goes_on else "may go on: the daemon does not tell"
        raise Problem("not-verified", f"{command.subject} was cancelled, and its load {told}")

    async def loading(self, *, within_s: float = REST_TIMEOUT_S) -> Mapping[str, bool | None] | None:
        """Tell of each model whether the daemon is loading it, None where its state is not a word that is known.

        It is the only place that tells; None where it cannot be read. Source: `state` of GET /api/v0/models.
        """
        try:
            states = await rest.model_states(
                self._daemon.client.url,
                token=await self._daemon.client.current_token(),
                timeout_s=within_s,
            )
        except LlmsterError:
            return None
        return {state.id: state.is_loading for state in states}

    async def gone(self, reference: str, identifier: str, *, cause: LlmsterError | None = None) -> None:
        """Wait until an instance is no longer listed. Raises Problem when it stays listed."""
        limit_s = self._timeouts.load_s if cause is not None else self._timeouts.verify_s
        deadline = time.monotonic() + limit_s
        seen_since: float | None = None
        still = "is still loaded"
        while time.monotonic() < deadline:
            try:
                listing = await self._daemon.commands.instances()
            except LlmsterError:
                seen_since = None
            else:
                is_listed = any(info.instance_reference == reference for info in listing.read)
                if not is_listed and listing.is_complete:
                    return
                still = "is still loaded" if is_listed else f"may be still loaded: {UNREADABLE}"
                seen_since = seen_since or time.monotonic()
                if time.monotonic() - seen_since > self._timeouts.verify_s:
                    break
            await asyncio.sleep(self._timeouts.poll_s)
        name = mark(identifier)
        raise Problem(
            "not-verified",
            f"{name} {still}" + (f" ({cause})" if cause is not None else ""),
            still_loaded=[name],
        )

    async def ejected(self, operation: Operation, *, everything: bool = False) -> dict[str, Any]:
        """Find out, after a restart of this service, whether an eject finished. Raises Problem."""
        references: dict[str, str] = dict(operation.before.get("references", {}))
        snapshot = await self.until_readable(operation)
        present = noted(one.info for one in snapshot.instances)
        left = (
            sorted(present.values())
            if everything
            else sorted(name for reference, name in references.items() if reference in present)
        )
        if left:
            raise Problem("interrupted", f"still loaded: {', '.join(left)}", still_loaded=left)
        return {"ejected": sorted(references.values())}

    async def until_readable(self, operation: Operation) -> Snapshot:
        """Wait for the daemon without a limit. Raises Problem when cancelled."""
        while (snapshot := await self.look(operation)) is None or snapshot.unreadable_instances:
            await sleep_unless(operation.cancel, self._timeouts.poll_s)
        return snapshot

    async def look(self, operation: Operation) -> Snapshot | None:
        """Take a fresh snapshot; None while the daemon cannot be read. Raises Problem when cancelled."""
        if operation.cancel.is_set():
            raise Problem("interrupted", "given up before it was found out what the daemon has done")
        try:
            snapshot = await self._daemon.snapshot()
        except Problem:
            operation.phase = "waiting for the daemon, to see what it has done"
            return None
        operation.phase = "recovering"
        return snapshot

    async def _is_loading(self, command: Load) -> bool | None:
        """Tell whether the daemon is loading this model; None where that is unknown."""
        loading = await self.loading()
        return loading.get(command.model.partition("@")[0], False) if loading is not None else None

    @staticmethod
    def new_instance(
        instances: Iterable[InstanceInfo], command: Load, before: Mapping[str, Any]
    ) -> InstanceInfo | None:
        """Find a load of this model that was not there before.

        A name taken meanwhile makes the daemon append `:2`.
        """
        known = before.get("references", {})
        base = command.model.partition("@")[0]
        for info in instances:
            if mark(info.instance_reference) in known or base not in {info.model_key, info.path}:
                continue
            wanted = command.instance_id or info.model_key
            if info.identifier == wanted or info.identifier.startswith(f"{wanted}:"):
                return info
        return None
