"""Model the daemon: models on disk, instances in memory, requests and the log they leave.

Pure, seeded and on a virtual clock: no sockets, no files, no real time.
"""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING, Any, Literal

from llmster_sim import errors
from llmster_sim.engine import log_events
from llmster_sim.engine.jobs import Ask, Failed, Job, JobEvent, ignore
from llmster_sim.engine.loading import Load, Loaded, Loader, LoadEvent, LoadFailed
from llmster_sim.engine.totals import Totals
from llmster_sim.host import memory
from llmster_sim.host.gpu_specs import specs_of
from llmster_sim.host.gpus import Gpus, mebibytes
from llmster_sim.models.load_config import complete

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from llmster_sim.clock import Clock
    from llmster_sim.engine.instances import Instance
    from llmster_sim.engine.ports import Served
    from llmster_sim.host.gpu_specs import GpuSpec
    from llmster_sim.host.memory import Guardrail
    from llmster_sim.models.catalogue import Model
    from llmster_sim.models.load_config import LoadConfig

ToolFailure = Literal["invalid_name", "invalid_arguments"]

_REFERENCE_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
# Every so many predictions the output event has no stats, as some builds do now and then.
_STATS_MISSING_EVERY = 50
_FOREIGN_PID = 2211


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an operator sets: `settings.json` and `http-server-config.json` in daemon terms.

    `ttl_ignored` leaves idle instances in memory, as operators reported. `log_prompts` off means no
    prediction events at all; `engine_lines_in_server_log` repeats engine lines as DEBUG server.log lines,
    as 0.4.24 did.
    """

    jit_loading: bool = True
    jit_ttl_s: int = 3600
    jit_evicts: bool = False
    ttl_ignored: bool = False
    guardrail: Guardrail = "low"
    allow_mcp_json: bool = False
    allow_ephemeral_mcp: bool = True
    log_prompts: bool = True
    engine_lines_in_server_log: bool = False


@dataclasses.dataclass(slots=True, kw_only=True)
class Request:
    """A request under way: first perhaps a load, then a job."""

    instance: Instance | None = None
    job: Job | None = None
    cancelled: bool = False

    def cancel(self) -> None:
        """Stop the job: the asker went away. A load it began goes on."""
        self.cancelled = True
        if self.instance is not None and self.job is not None:
            self.instance.queue.cancel(self.job)


class Daemon:
    """The whole daemon. Drive it with `load`, `unload`, `request`, `crash`, `stall`; watch `totals`."""

    def __init__(
        self,
        *,
        clock: Clock,
        models: Sequence[Model],
        seed: int = 0,
        gpus: Sequence[GpuSpec] = specs_of("", 2),
        settings: Settings | None = None,
        version: str = "0.4.24",
        build: int = 1,
        pid: int | None = None,
    ) -> None:
        self.clock = clock
        self.models = tuple(models)
        self.settings = settings or Settings()
        self.rng = random.Random(seed)
        self.version = version
        self.build = build
        self.gpus = Gpus(specs=gpus)
        self.instances: list[Instance] = []
        self.totals = Totals()
        self.next_load_failure: errors.DaemonError | None = None
        self.next_tool_failure: ToolFailure | None = None
        self.host_rss_bytes = mebibytes(412)
        # Whether anyone can reach it: a client that is cut off by our own end stops no job.
        self.serving = True
        self._last_pid = self.rng.randrange(20_000, 40_000)
        self.pid = pid if pid is not None else self.new_pid()
        self._tasks = 0
        self._watchers: list[Callable[[log_events.Event], None]] = []
        self.loader = Loader(daemon=self)
        if len(gpus) > 1:
            self.gpus.add_foreign(pid=_FOREIGN_PID, index=len(gpus) - 1, size_bytes=mebibytes(2150))

    # Log stream

    def watch(self, watcher: Callable[[log_events.Event], None]) -> Callable[[], None]:
        """Get every log event from now on; the result stops it."""
        self._watchers.append(watcher)

        def stop() -> None:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

        return stop

    def log(self, event: log_events.Event) -> None:
        """Publish a log event to the current subscribers; there is no history."""
        for watcher in list(self._watchers):
            watcher(event)

    def server_line(self, *, level: log_events.Level, text: str, scope: str | None = None) -> None:
        """Publish a server.log line."""
        if self._watchers:
            self.log(log_events.server(at_ms=self.clock.now_ms, level=level, text=text, scope=scope))

    def engine_line(self, *, instance: Served, text: str, level: log_events.Level = "debug") -> None:
        """Publish an engine line; engines without known wording (MLX) print errors only."""
        engine = instance.model.engine
        if not self._watchers or (engine.wording is None and level == "debug"):
            return
        self.log(
            log_events.runtime(
                at_ms=self.clock.now_ms,
                level=level,
                text=text,
                engine=engine,
                identifier=instance.identifier,
                reference=instance.reference,
                pid=instance.pid,
            )
        )
        if self.settings.engine_lines_in_server_log:
            self.log(log_events.server(at_ms=self.clock.now_ms, level="debug", text=text))

    @property
    def logs_prompts(self) -> bool:
        """Whether prediction events are published."""
        return self.settings.log_prompts

    @property
    def keeps_expired(self) -> bool:
        """Whether idle instances outlive their TTL, as operators reported."""
        return self.settings.ttl_ignored

    def keeps_stats(self, task: int) -> bool:
        """Whether this prediction's output event carries stats."""
        return task % _STATS_MISSING_EVERY != _STATS_MISSING_EVERY - 1

    # Identity

    def new_pid(self) -> int:
        """Give an unused process id."""
        self._last_pid += self.rng.randrange(1, 40)
        return self._last_pid

    def new_reference(self) -> str:
        """Give a fresh instanceReference."""
        return "".join(self.rng.choice(_REFERENCE_ALPHABET) for _ in range(16))

    def next_task(self) -> int:
        """Give a task number, unique while the daemon runs."""
        self._tasks += 1
        return self._tasks

    def free_identifier(self, wanted: str) -> str:
        """Give the wanted identifier, or with `:2`, `:3`... when it is taken."""
        taken = {instance.identifier for instance in self.instances}
        number, name = 2, wanted
        while name in taken:
            name, number = f"{wanted}:{number}", number + 1
        return name

    # Looking things up

    @property
    def loaded(self) -> list[Instance]:
        """Instances that are ready, in the order they were loaded."""
        return [instance for instance in self.instances if instance.loaded]

    def model(self, key: str, *, domain: str | None = None) -> Model:
        """Give a model on disk by key, variant or path."""
        for model in self.models:
            if key in {model.key, model.path, *model.variants}:
                if domain is not None and model.type != domain:
                    raise errors.wrong_domain(key=key, actual=model.type, expected=domain)
                return model
        raise errors.path_not_found(key=key, known=[model.key for model in self.models])

    def instance(self, identifier: str, *, domain: str | None = None) -> Instance:
        """Give a loaded instance by identifier."""
        for instance in self.loaded:
            if instance.identifier == identifier and domain in {None, instance.model.type}:
                return instance
        raise errors.identifier_not_found(identifier=identifier, loaded=[i.identifier for i in self.loaded])

    def find(self, name: str, *, domain: str | None = None) -> Instance | None:
        """Give a loaded instance by identifier or model key; None when there is none."""
        fitting = [i for i in self.loaded if domain in {None, i.model.type}]
        by_name = [i for i in fitting if i.identifier == name]
        return next(iter(by_name or [i for i in fitting if name in {i.model.key, *i.model.variants}]), None)

    # Loading

    def passes_guardrail(self, *, needs: memory.Estimate, config: LoadConfig) -> bool:
        """Whether the guardrail would let such a load pass right now."""
        return memory.passes_guardrail(
            guardrail=self.settings.guardrail,
            needs=needs,
            gpus=self.gpus,
            config=config,
            own_pids=[i.pid for i in self.instances if i.pid is not None],
        )

    def estimate(
        self, *, key: str, overrides: Mapping[str, Any], domain: str | None = None
    ) -> dict[str, Any]:
        """Tell what estimateModelUsage answers."""
        model = self.model(key, domain=domain)
        config = complete(model=model, overrides=overrides)
        needs = memory.estimate(model=model, config=config, has_gpu=bool(self.gpus.all))
        return needs.to_wire(passes=self.passes_guardrail(needs=needs, config=config))

    def load(
        self,
        key: str,
        *,
        identifier: str | None = None,
        ttl_ms: int | None = None,
        overrides: Mapping[str, Any] | None = None,
        domain: str | None = None,
        jit: bool = False,
        notify: Callable[[LoadEvent], None] = ignore,
        instant: bool = False,
    ) -> Load | None:
        """Start a load; progress takes virtual time unless `instant`.

        Raises for an unknown model or an identifier in use; a default identifier gets a number instead.
        """
        self.clock.catch_up()
        if identifier is not None and identifier != self.free_identifier(identifier):
            raise errors.identifier_taken(identifier=identifier)
        return self.loader.start(
            model=self.model(key, domain=domain),
            identifier=identifier,
            ttl_ms=ttl_ms,
            overrides=overrides or {},
            jit=jit,
            notify=notify,
            instant=instant,
        )

    def get_or_load(
        self,
        name: str,
        *,
        domain: str | None = None,
        ttl_ms: int | None = None,
        overrides: Mapping[str, Any] | None = None,
        notify: Callable[[LoadEvent], None],
    ) -> Load | None:
        """Give the instance of that name, or join its load, or load it just in time."""
        self.clock.catch_up()
        instance = self.find(name, domain=domain)
        if instance is not None:
            notify(Loaded(instance=instance, load_s=0.0))
            return None
        model = self.model(name, domain=domain)
        for load in self.loader.loads:
            if load.instance.model is model:
                load.listeners.append(notify)
                return load
        if self.settings.jit_evicts:
            self.loader.evict_jit(but_not=model, notify=notify)
        ttl_ms = ttl_ms if ttl_ms is not None else self.settings.jit_ttl_s * 1000
        return self.load(model.key, ttl_ms=ttl_ms, overrides=overrides, jit=True, notify=notify)

    def unload(self, identifier: str, *, domain: str | None = None) -> None:
        """Unload an instance, busy or not."""
        self.clock.catch_up()
        self.loader.unload(self.instance(identifier, domain=domain))

    def used(self, instance: Instance) -> None:
        """Start the idle countdown of an instance over."""
        instance.last_used_ms = self.clock.wall_ms
        if instance.expiry is not None:
            instance.expiry.cancel()
            instance.expiry = None
        if instance.ttl_ms is not None and not instance.gone:
            instance.expiry = self.clock.call_later(
                instance.ttl_ms / 1000 * self.clock.speed, lambda: self.loader.expire(instance)
            )

    # Working

    def request(
        self,
        name: str,
        *,
        ask: Callable[[Instance], Ask],
        domain: str = "llm",
        notify: Callable[[JobEvent], None] = ignore,
    ) -> Request:
        """Answer a request for a model, loading it just in time; `ask` is made once the instance is known."""
        self.clock.catch_up()
        request = Request()

        def on_load(event: LoadEvent) -> None:
            if request.cancelled:
                return
            if isinstance(event, Loaded):
                request.instance = event.instance
                request.job = event.instance.queue.submit(ask=ask(event.instance), notify=notify)
            elif isinstance(event, LoadFailed):
                self.totals.failed += domain == "llm"
                notify(Failed(error=event.error))

        self.get_or_load(name, domain=domain, notify=on_load)
        return request

    def submit(self, instance: Instance, *, ask: Ask, notify: Callable[[JobEvent], None] = ignore) -> Job:
        """Queue an ask on an instance that is loaded."""
        self.clock.catch_up()
        return instance.queue.submit(ask=ask, notify=notify)

    def show_load(self) -> None:
        """Let the GPUs' load, and the engines' use of the processor, follow the running jobs."""
        for instance in self.instances:
            instance.cpu.set_running(
                len(instance.queue.running) if instance.loaded else 0, now_s=self.clock.now_s
            )
        for gpu in self.gpus.all:
            running = sum(
                len(i.queue.running) for i in self.instances if i.pid in gpu.processes and not i.queue.stalled
            )
            gpu.set_load(load=min(1.0, 0.62 + 0.12 * running) if running else 0.0, now_s=self.clock.now_s)

    def stall(self, identifier: str) -> None:
        """Stop all progress of an instance; it stays `generating` until it is unloaded."""
        self.clock.catch_up()
        self.instance(identifier).queue.stall()
        self.show_load()

    def crash(self, identifier: str, *, exit_code: int = 139) -> None:
        """Let the engine process of an instance die."""
        self.clock.catch_up()
        self.loader.crash(self.instance(identifier), exit_code=exit_code)

    def restart(self, *, version: str | None = None, pid: int | None = None) -> None:
        """Begin a new daemon process: instances, queues and task numbers are gone, totals stay."""
        self.loader.drop_everything()
        self.version = version or self.version
        self.pid = pid if pid is not None else self.new_pid()
        self.host_rss_bytes = mebibytes(412)
        self._tasks = 0
