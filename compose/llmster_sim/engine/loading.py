"""Bring models into memory and out again: explicit and just-in-time loads, TTL, eviction, crashes.

Does not depend on prompts or sockets; one callback per load informs the requester.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

from llmster_sim import errors
from llmster_sim.engine import log_events
from llmster_sim.engine.instances import Instance
from llmster_sim.engine.ports import Desk
from llmster_sim.engine.queueing import Queue
from llmster_sim.host import memory
from llmster_sim.models.load_config import complete

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmster_sim.host.gpus import Gpus
    from llmster_sim.models.catalogue import Model
    from llmster_sim.models.load_config import LoadConfig

# Disk to memory, and process start. Assumed: a fast NVMe drive; 7.9 s were published for a 1B model.
_LOAD_BYTES_PER_S = 2.4e9
_PROCESS_START_S = 0.6
_STEPS = 10
# With layers left on the CPU an engine is this many times slower at worst. Assumed.
_CPU_SLOWDOWN = 8.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The model key is known."""

    model: Model


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Evicting:
    """A JIT load unloads the former JIT instance first."""

    instance: Instance


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Share of the load done, 0..1."""

    share: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The instance is ready; `load_s` is 0 when it was there already."""

    instance: Instance
    load_s: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoadFailed:
    """There will be no instance."""

    error: errors.DaemonError


LoadEvent = Resolved | Evicting | Progress | Loaded | LoadFailed


@dataclasses.dataclass(slots=True, kw_only=True, eq=False)
class Load:
    """A load under way; several requests may wait for the same one."""

    instance: Instance
    started_s: float
    listeners: list[Callable[[LoadEvent], None]]
    done: bool = False

    def tell(self, event: LoadEvent) -> None:
        """Pass an event to everyone waiting."""
        for listener in list(self.listeners):
            listener(event)


class LoaderHost(Desk, Protocol):
    """What a loader needs of the daemon."""

    gpus: Gpus
    instances: list[Instance]
    next_load_failure: errors.DaemonError | None

    @property
    def keeps_expired(self) -> bool:
        """Whether idle instances outlive their TTL."""

    def new_pid(self) -> int:
        """Give an unused process id."""

    def new_reference(self) -> str:
        """Give a fresh instanceReference."""

    def free_identifier(self, wanted: str) -> str:
        """Give the wanted identifier, or with `:2`, `:3`... when it is taken."""

    def passes_guardrail(self, *, needs: memory.Estimate, config: LoadConfig) -> bool:
        """Whether the guardrail would let such a load pass right now."""

    def used(self, instance: Instance) -> None:
        """Start the idle countdown of an instance over."""

    def server_line(self, *, level: log_events.Level, text: str, scope: str | None = None) -> None:
        """Publish a server.log line."""


class Loader:
    """The daemon's model manager."""

    def __init__(self, *, daemon: LoaderHost) -> None:
        self._daemon = daemon
        self.loads: list[Load] = []

    def start(
        self,
        *,
        model: Model,
        identifier: str | None,
        ttl_ms: int | None,
        overrides: Mapping[str, Any],
        jit: bool,
        notify: Callable[[LoadEvent], None],
        instant: bool = False,
    ) -> Load | None:
        """Begin a load and tell `notify` about it; None when it was refused."""
        daemon = self._daemon
        notify(Resolved(model=model))
        config = complete(model=model, overrides=overrides)
        here = model.device_identifier is None
        if here:
            refusal = self._refusal(model=model, config=config)
            if refusal is not None:
                self._refuse(model=model, error=refusal, notify=notify)
                return None
        pid = daemon.new_pid() if here else None
        has_gpu = bool(daemon.gpus.all)
        vram_bytes = memory.needed_vram(model=model, config=config, has_gpu=has_gpu) if here else 0
        if pid is not None and not daemon.gpus.place(pid=pid, size_bytes=vram_bytes, split=config.split):
            self._refuse(model=model, error=errors.out_of_memory(), notify=notify)
            return None
        on_gpu = config.offload_ratio if has_gpu or not here else 0.0
        instance = Instance(
            identifier=daemon.free_identifier(identifier or model.key),
            reference=daemon.new_reference(),
            model=model,
            config=config,
            ttl_ms=ttl_ms,
            jit=jit,
            pid=pid,
            vram_bytes=vram_bytes,
            speed=1 / (1 + (_CPU_SLOWDOWN - 1) * (1 - on_gpu)),
            last_used_ms=None,
        )
        instance.queue = Queue(desk=daemon, instance=instance, used=lambda: daemon.used(instance))
        daemon.instances.append(instance)
        load = Load(instance=instance, started_s=daemon.clock.now_s, listeners=[notify])
        self.loads.append(load)
        if instant:
            self._complete(load)
            return load
        load_s = _PROCESS_START_S + model.size_bytes / _LOAD_BYTES_PER_S
        load.tell(Progress(share=0))
        for step in range(1, _STEPS + 1):
            share = 1 if step == _STEPS else step / _STEPS
            daemon.clock.call_later(load_s * share, lambda share=share: self._step(load, share))  # type: ignore[misc]
        return load

    def _refusal(self, *, model: Model, config: LoadConfig) -> errors.DaemonError | None:
        daemon = self._daemon
        failure = daemon.next_load_failure
        if failure is not None:
            daemon.next_load_failure = None
            return failure
        needs = memory.estimate(model=model, config=config, has_gpu=bool(daemon.gpus.all))
        if daemon.passes_guardrail(needs=needs, config=config):
            return None
        return errors.does_not_fit(total_bytes=needs.total_bytes)

    def _refuse(
        self, *, model: Model, error: errors.DaemonError, notify: Callable[[LoadEvent], None]
    ) -> None:
        self._daemon.totals.failed_loads += 1
        text = f'Failed to load model "{model.key}". Error: {error.title} {error.cause or ""}'.rstrip()
        self._daemon.server_line(level="error", text=text)
        notify(LoadFailed(error=error))

    def _step(self, load: Load, share: float) -> None:
        if load.done:
            return
        load.tell(Progress(share=share))
        if share >= 1:
            self._complete(load)

    def _complete(self, load: Load) -> None:
        daemon, instance = self._daemon, load.instance
        load.done = True
        self.loads.remove(load)
        instance.loaded = True
        daemon.totals.loads += 1
        daemon.used(instance)
        text = log_events.initializing(slots=instance.config.parallel, context=instance.config.context_length)
        daemon.engine_line(instance=instance, text=text)
        load.tell(Loaded(instance=instance, load_s=round(daemon.clock.now_s - load.started_s, 3)))

    def abort(self, load: Load, *, error: errors.DaemonError | None = None) -> None:
        """Abandon a load; the callback is called only with an error."""
        if load.done:
            return
        load.done = True
        self.loads.remove(load)
        self._remove(load.instance)
        if error is not None:
            self._daemon.totals.failed_loads += 1
            load.tell(LoadFailed(error=error))

    def unload(self, instance: Instance) -> None:
        """Take an instance out of memory; what runs on it ends with what it wrote."""
        if instance.gone:
            return
        for load in [load for load in self.loads if load.instance is instance]:
            self.abort(load, error=errors.already_unloaded())
            return
        instance.gone = True
        instance.queue.close()
        self._remove(instance)
        self._daemon.totals.unloads += 1

    def evict_jit(self, *, but_not: Model, notify: Callable[[LoadEvent], None]) -> None:
        """Unload former JIT instances before a new JIT load, busy or not (operators report that)."""
        for instance in list(self._daemon.instances):
            if instance.jit and instance.loaded and instance.model is not but_not:
                notify(Evicting(instance=instance))
                self.unload(instance)

    def expire(self, instance: Instance) -> None:
        """Unload an instance whose idle time is over; a busy one gets its countdown anew when it ends."""
        if instance.gone or instance.busy or self._daemon.keeps_expired:
            return
        self._daemon.server_line(
            level="info", text=f"Unloading model {instance.identifier} due to TTL expiration."
        )
        self._daemon.totals.ttl_unloads += 1
        self.unload(instance)

    def crash(self, instance: Instance, *, exit_code: int) -> None:
        """Let the engine process of an instance die."""
        text = log_events.crashed(exit_code)
        self._daemon.engine_line(instance=instance, text=text, level="error")
        self._daemon.server_line(level="error", text=text, scope=instance.identifier)
        self._daemon.totals.crashes += 1
        instance.gone = True
        instance.queue.break_off(errors.DaemonError(text, kind="crashed"), logs=True)
        self._remove(instance)

    def drop_everything(self) -> None:
        """Forget all instances and loads, as the death of the daemon does."""
        for load in self.loads:
            load.done = True
        self.loads.clear()
        for instance in list(self._daemon.instances):
            instance.gone = True
            instance.queue.break_off(errors.already_unloaded(), logs=False)
            self._remove(instance)

    def _remove(self, instance: Instance) -> None:
        instance.gone = True
        if instance.expiry is not None:
            instance.expiry.cancel()
        if instance.pid is not None:
            self._daemon.gpus.release(instance.pid)
        if instance in self._daemon.instances:
            self._daemon.instances.remove(instance)
        self._daemon.show_load()
