"""How each command is carried out: tell the daemon, look at what came of it, say so.

Knows no HTTP and no permission: what arrives here was allowed and is on record. Raises Problem or Cancelled; every
call that changes a daemon is made once, and a lost answer is looked up (recovery.py), never guessed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Final

from actions.capacity.load_history import Experience, measure
from actions.commands.daemon_session import UNREADABLE, Cancelled, Controlled, find, in_hand
from actions.commands.recovery import Finder
from actions.domain.command import Eject, EjectAll, Load
from actions.domain.errors import Problem, from_daemon
from actions.domain.preflight import MemoryReading, Preflight, Verdict
from actions.domain.timeouts import Timing, sleep_unless
from actions.store.database import StorageFailed
from actions.store.operations import Operation, Operations
from exporter.llmster.commands import namespace_of
from exporter.llmster.errors import (
    CallFailed,
    ConnectionLost,
    DaemonStalled,
    DaemonUnreachable,
    LlmsterError,
    ProtocolViolation,
)
from exporter.llmster.session import GONE_CODES
from exporter.llmster.state import DownloadedModel, InstanceInfo, Listing

log = logging.getLogger(__name__)

LOST: Final = (ConnectionLost, DaemonStalled, DaemonUnreachable)
"""What leaves open whether the daemon has done it."""

Result = Mapping[str, Any]


class Runner:
    """Carries out loads and ejects of one daemon."""

    def __init__(
        self, daemon: Controlled, operations: Operations, experience: Experience, timing: Timing
    ) -> None:
        self._daemon = daemon
        self._operations = operations
        self._experience = experience
        self._timing = timing
        self.finder = Finder(daemon, timing)

    async def load(self, operation: Operation, command: Load) -> Result:
        """Load a model, unless it is loaded already as asked."""
        operation.phase = "waiting for its turn"
        async with self._daemon.turn(operation.cancel):
            started = time.monotonic()
            model = await self._daemon.model(command.model)
            already = await already_loaded(self._daemon, command, model, but_not=command.replace)
            if already is not None:
                return {**described(already), "already_loaded": True}
            operation.phase = "checking memory"
            preflight = await self._daemon.preflight(command, model=model)
            _require_room(command, preflight)
            listing = await self._instances()
            await self._operations.start(operation, await self.before(listing.read))
            replaced = [await self._replace(operation, command, name) for name in command.replace]
            info = await self._load(operation, command, model, preflight)
            return {
                **described(info),
                "already_loaded": False,
                "replaced": [name for name in replaced if name],
                "took_seconds": round(time.monotonic() - started, 3),
                "preflight": preflight.to_json(),
            }

    async def eject(self, operation: Operation, command: Eject) -> Result:
        """Drain, unload and verify one instance."""
        operation.phase = "waiting for its turn"
        async with self._daemon.turn(operation.cancel):
            target = find(await self._instances(), command.instance_id)
            if target is None or command.reference not in {None, target.instance_reference}:
                return {"ejected": [], "gone_before": [command.instance_id]}
            queued = await self._drain(operation, target, command.drain_seconds)
            if command.only_if_idle and queued != 0:
                raise Problem(
                    "instance-busy",
                    f"{target.identifier} is not idle any more",
                    instance_id=target.identifier,
                )
            await self._operations.start(operation, await self.before((target,)))
            operation.phase = "ejecting"
            await self._unload(target)
            return {"ejected": [target.identifier], "queued_when_ejected": queued}

    async def eject_all(self, operation: Operation, _command: EjectAll) -> Result:
        """Unload everything now. Loads that were under way have been told to stop before."""
        operation.phase = "ejecting"
        async with self._daemon.turn(operation.cancel, patience_s=self._timing.kill_patience_s):
            ejected: set[str] = set()
            deadline = time.monotonic() + self._timing.verify_s
            left = await self._instances()
            await self._operations.start(operation, await self.before(left.read))
            while left.read and time.monotonic() < deadline:
                outcomes = await asyncio.gather(*map(self._unload, left.read), return_exceptions=True)
                for info, outcome in zip(left.read, outcomes, strict=True):
                    if outcome is None:
                        ejected.add(info.identifier)
                    elif not isinstance(outcome, Problem):
                        raise outcome
                left = await self._instances()
            if not left.is_complete:
                names = [info.identifier for info in left.read]
                raise Problem("not-verified", UNREADABLE, still_loaded=names)
            if left.read:
                names = [info.identifier for info in left.read]
                raise Problem("not-verified", f"still loaded: {', '.join(names)}", still_loaded=names)
            return {"ejected": sorted(ejected)}

    async def before(self, instances: tuple[InstanceInfo, ...]) -> dict[str, Any]:
        """Write down what finding out later needs: which loads there were, and of which daemon process."""
        snapshot = await self._daemon.snapshot(max_age_s=1.0)
        return {
            "pid": snapshot.process.pid,
            "references": {info.instance_reference: info.identifier for info in instances},
        }

    async def _instances(self) -> Listing[InstanceInfo]:
        try:
            return await self._daemon.commands.instances()
        except LlmsterError as error:
            raise from_daemon(error, daemon=self._daemon.name) from error

    async def _load(
        self, operation: Operation, command: Load, model: DownloadedModel, preflight: Preflight
    ) -> InstanceInfo:
        memory = await self._memory(model)
        operation.phase, operation.progress = "loading", 0.0

        def progressed(share: float) -> None:
            operation.progress = share

        try:
            info = await self._daemon.commands.load(
                command.request(namespace_of(model), model.device_identifier),
                on_progress=progressed,
                cancel=operation.cancel,
                timeout_s=self._timing.load_s,
                cancel_timeout_s=self._timing.cancel_s,
            )
        except TimeoutError:
            raise Problem(
                "timeout", f"{command.model} was not loaded within {self._timing.load_s:g} s"
            ) from None
        except LOST as error:
            operation.phase = "finding out"
            return await self.finder.loaded(operation, command, cause=error)
        except LlmsterError as error:
            raise from_daemon(error, daemon=self._daemon.name) from error
        if info is None:
            raise Cancelled
        await self._learn(info, model, memory, preflight)
        return info

    async def _learn(
        self,
        info: InstanceInfo,
        model: DownloadedModel,
        before: MemoryReading | str,
        preflight: Preflight,
    ) -> None:
        """Keep what the load really took, where that could be told apart."""
        after = await self._memory(model)
        if isinstance(before, str) or isinstance(after, str) or preflight.estimate is None:
            return
        measured = measure(before, after)
        if measured is None:
            return
        try:
            await self._experience.remember(
                daemon=self._daemon.name,
                model=model.model_key,
                instance_reference=info.instance_reference,
                estimated_bytes=preflight.estimate.vram_bytes,
                measured=measured,
            )
        except StorageFailed as error:  # the load is done all the same; its outcome is what must be written
            log.warning("a measured load is forgotten", extra={"problem": str(error)})

    async def _memory(self, model: DownloadedModel) -> MemoryReading | str:
        try:
            return await self._daemon.memory(await self._daemon.snapshot(), model)
        except Problem as problem:
            return problem.detail

    async def _replace(self, operation: Operation, command: Load, name: str) -> str | None:
        """Eject one instance to make room; None when it was gone already."""
        target = find(await self._instances(), name)
        if target is None:
            return None
        queued = await self._queued(target)
        if queued and not command.force:
            raise Problem(
                "instance-busy",
                f"{name} has {queued} requests in hand by now",
                instance_id=name,
                queued=queued,
            )
        operation.phase = f"ejecting {name}"
        await self._unload(target)
        return name

    async def _unload(self, target: InstanceInfo) -> None:
        """Unload and look whether it is gone."""
        lost: LlmsterError | None = None
        try:
            await self._daemon.commands.unload(target)
        except CallFailed as error:
            if error.code not in GONE_CODES:
                raise from_daemon(error, daemon=self._daemon.name) from error
        except LOST as error:
            lost = error
        except LlmsterError as error:
            raise from_daemon(error, daemon=self._daemon.name) from error
        await self.finder.gone(target.instance_reference, target.identifier, cause=lost)

    async def _queued(self, target: InstanceInfo) -> int | None:
        """Ask how many requests an instance has in hand; 0 when it is gone, None when the daemon would not say."""
        try:
            state = await self._daemon.commands.processing(target)
        except CallFailed as error:
            return 0 if error.code in GONE_CODES else None
        except LlmsterError as error:
            raise from_daemon(error, daemon=self._daemon.name) from error
        return in_hand(state)

    async def _drain(self, operation: Operation, target: InstanceInfo, drain_s: float) -> int | None:
        """Wait until nothing is in hand, at most so long; returns what still is."""
        deadline = time.monotonic() + drain_s
        operation.phase = "draining"
        while (queued := await self._queued(target)) != 0 and time.monotonic() < deadline:
            await sleep_unless(operation.cancel, self._timing.poll_s)
            if operation.cancel.is_set():
                raise Cancelled
        return queued


async def already_loaded(
    daemon: Controlled, command: Load, model: DownloadedModel, *, but_not: tuple[str, ...] = ()
) -> InstanceInfo | None:
    """Find an instance that is what the command asks for. Raises Problem when one is in its way.

    Without an `instance_id`, any instance of the model with this configuration will do; the daemon would stack a `:2`.
    """
    try:
        listing = await daemon.commands.instances()
        if not listing.is_complete:
            raise ProtocolViolation(f"{UNREADABLE}, so it is not known whether {model.model_key} is loaded")
        same: list[tuple[InstanceInfo, tuple[str, ...]]] = []
        for info in listing.read:
            wanted = (
                info.identifier == command.instance_id
                if command.instance_id is not None
                else info.model_key == model.model_key and info.device_identifier == model.device_identifier
            )
            if wanted and info.identifier not in but_not:
                if info.model_key != model.model_key:
                    same.append((info, ("model",)))
                else:
                    same.append((info, command.differences(info, await daemon.commands.load_config(info))))
    except LlmsterError as error:
        raise from_daemon(error, daemon=daemon.name) from error
    for info, differences in same:
        if not differences:
            return info
    if same:
        info, differences = same[0]
        raise Problem(
            "instance-exists",
            f"{info.identifier} is loaded with another {', '.join(differences)}; use replace={info.identifier}, "
            "or give the new one an instance_id of its own",
            instance_id=info.identifier,
            differences=list(differences),
        )
    return None


def described(info: InstanceInfo) -> dict[str, Any]:
    """Describe an instance in a result."""
    return {
        "instance_id": info.identifier,
        "instance_reference": info.instance_reference,
        "model": info.model_key,
        "context_length": info.context_length,
        "ttl_seconds": info.ttl_ms / 1000 if info.ttl_ms is not None else None,
    }


def _require_room(command: Load, preflight: Preflight) -> None:
    """Judge again when the turn has come: what ran before may have taken the memory."""
    if preflight.verdict is Verdict.DOES_NOT_FIT and not command.force:
        raise Problem(
            "does-not-fit",
            f"{command.model}: {'; '.join(preflight.reasons)}",
            preflight=preflight.to_json(),
        )
