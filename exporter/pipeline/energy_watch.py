"""Watches the energy of this host's GPUs, and tells each request's joules once the energy of its time is known.

Follows which requests run where, and has the GPUs read often enough while any does.
How energy is measured is in exporter.hardware.energy, how it is shared in exporter.pipeline.energy.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

import msgspec

from exporter.hardware.energy import EnergyMeter, Total
from exporter.hardware.gpus import Device
from exporter.hardware.vendors import HostGpus, is_shadowed
from exporter.llmster.events import RuntimeLog, ServerLog
from exporter.llmster.state import Snapshot
from exporter.pipeline.energy import EnergyLedger, Model
from exporter.pipeline.log_stream import Sink
from exporter.pipeline.predictions import Prediction
from exporter.pipeline.slot_runs import SlotRuns
from exporter.pipeline.slot_state import Slot
from exporter.pipeline.vram import Vram

log = logging.getLogger(__name__)

BUSY_S: Final = 1.0
"""Between two readings while a request runs: power follows load within a fraction of that."""
IDLE_S: Final = 30.0
"""Between two readings else, where no scrape reads the GPUs more often. Less than power is integrated over."""
READ_WITHIN_S: Final = 5.0
MOST_WAIT_S: Final = 5.0
"""A request that has ended waits so long for the energy of its last moments."""
MOST_WAITING: Final = 1000
_OVERHEAD: Final = 0.1
"""A GPU that holds less than this of what the fullest holds of a model has the engine's overhead only."""
_NS_PER_S: Final = 1e9

Count = Callable[[str, str, str | None, float], None]
"""Takes daemon, model key, client if known, and the joules of one request."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """A request whose energy is not known yet."""

    model: Model
    prediction: Prediction
    then: Callable[[Prediction], None]
    since_s: float


class EnergyWatch:
    """The energy of one host. `run()` must be kept going by the owner's task group."""

    def __init__(
        self,
        *,
        count: Count = lambda _daemon, _model, _client, _joules: None,
        ledger: EnergyLedger | None = None,
        unix_s: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ledger = ledger or EnergyLedger()
        self._count = count
        self._unix_s = unix_s
        self._clock = clock
        self._meter = EnergyMeter()
        self._usable: frozenset[int] = frozenset()
        self._where: dict[Model, frozenset[int]] = {}
        self._slots: dict[tuple[str, str], tuple[Model, int]] = {}
        self._told: dict[tuple[str, str], tuple[Model, int]] = {}
        self._running: dict[Model, int] = {}
        self._runs = SlotRuns()
        self._ended: deque[_Ended] = deque()
        self._read_at: float | None = None
        self._wake = asyncio.Event()

    def observe(self, gpus: HostGpus) -> None:
        """Take a new reading of the GPUs."""
        self._read_at = self._clock()
        self._usable = frozenset(
            device.index for device in gpus.devices if not device.lost and not is_shadowed(device)
        )
        for interval in self._meter.advance(gpus.devices, self._unix_s()):
            self.ledger.add(interval.gpu, interval.from_s, interval.until_s, interval.joules)
        self._hand_on()

    def place(self, vram: Vram) -> None:
        """Learn which GPUs each model is on, as of the latest reading."""
        held: dict[Model, dict[int, int]] = {}
        for daemon in vram.daemons:
            for key, share in daemon.instances:
                gpus = held.setdefault((daemon.daemon, key), {})
                gpus[share.gpu] = gpus.get(share.gpu, 0) + share.memory_bytes
        where = {
            model: frozenset(gpu for gpu, size in gpus.items() if size >= _OVERHEAD * max(gpus.values()))
            for model, gpus in held.items()
        }
        if where != self._where:
            self._where = where
            for model, running in self._running.items():
                self.ledger.set_running(model, self.gpus_of(model), running, self._unix_s())

    def slots_changed(
        self, daemon: str, model_key: str, instance: str, slots: Mapping[int, Slot] | None
    ) -> None:
        """Learn which slots of an instance work; None: its engine does not tell now."""
        self._runs.slots_changed((daemon, instance), slots)
        busy = None if slots is None else sum(slot.busy for slot in slots.values())
        self._note(self._slots, daemon, model_key, instance, busy)

    def snapshot_taken(self, daemon: str, snapshot: Snapshot) -> None:
        """Learn how many requests each instance works on, for those whose engines tell of no slots."""
        loaded = {
            one.info.identifier: (one.info.model_key, one.running)
            for one in snapshot.instances
            if snapshot.device_name(one.info.device_identifier) == "local"
        }
        for known_daemon, instance in [*self._told]:
            if known_daemon == daemon and instance not in loaded:
                self._note(self._told, daemon, "", instance, None)
        for instance, (model_key, running) in loaded.items():
            self._note(self._told, daemon, model_key, instance, running)

    def request_ended(self, model: Model, prediction: Prediction, then: Callable[[Prediction], None]) -> None:
        """Take a request that is over; `then` gets it with its joules, or without after MOST_WAIT_S."""
        if prediction.start_ns is None or not self.gpus_of(model):
            then(prediction)
            return
        self._ended.append(_Ended(model, prediction, then, self._clock()))
        while len(self._ended) > MOST_WAITING:
            early = self._ended.popleft()
            early.then(early.prediction)
        self._wake.set()

    def gpus_of(self, model: Model) -> frozenset[int]:
        """Tell the GPUs a model is on: where its memory was seen, else all, as LM Studio splits by default."""
        return self._where.get(model, self._usable)

    def total(self, device: Device) -> Total | None:
        """Tell a GPU's energy as of the latest reading."""
        return self._meter.total(device)

    def joules(self) -> Mapping[tuple[int, Model], float]:
        """Energy by GPU and model since the exporter started."""
        return self.ledger.joules()

    def idle_joules(self) -> Mapping[int, float]:
        """Energy by GPU in which no request ran."""
        return self.ledger.idle_joules()

    async def run(self, read: Callable[[], Awaitable[object]]) -> NoReturn:
        """Have the GPUs read as often as requests need it. `read` ends in observe(), unless it cannot read."""
        while True:
            due_s = self.due_s()
            if due_s is None or due_s > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(due_s):
                        await self._wake.wait()
                self._wake.clear()
                continue
            self._read_at = self._clock()
            await read()
            self._hand_on()

    def close(self) -> None:
        """Hand on what still waits, without its energy."""
        while self._ended:
            ended = self._ended.popleft()
            ended.then(ended.prediction)

    def due_s(self) -> float | None:
        """Seconds until the GPUs have to be read; None while nothing asks for it."""
        if self._ended or any(self._running.values()):
            wanted_s = BUSY_S
        elif self._usable:
            wanted_s = IDLE_S
        else:
            return None
        return 0.0 if self._read_at is None else self._read_at + wanted_s - self._clock()

    def _note(
        self,
        kept: dict[tuple[str, str], tuple[Model, int]],
        daemon: str,
        model_key: str,
        instance: str,
        requests: int | None,
    ) -> None:
        before = kept.pop((daemon, instance), None)
        if requests is not None:
            kept[daemon, instance] = (daemon, model_key), requests
        if before != kept.get((daemon, instance)):
            for model in {(daemon, model_key), *([before[0]] if before is not None else [])}:
                self._update(model)

    def _update(self, model: Model) -> None:
        """Count what runs of a model, by slots where they are told, and tell the ledger."""
        running = sum(
            requests
            for instance, (own, requests) in (self._told | self._slots).items()
            if own == model and instance[0] == model[0]
        )
        if running == self._running.get(model, 0):
            return
        if running:
            self._running[model] = running
        else:
            del self._running[model]
        self.ledger.set_running(model, self.gpus_of(model), running, self._unix_s())
        self._wake.set()

    def _hand_on(self) -> None:
        """Hand on the requests whose energy is known by now, and those that have waited long enough."""
        for _ in range(len(self._ended)):
            ended = self._ended.popleft()
            prediction, gpus = ended.prediction, self.gpus_of(ended.model)
            end_s = prediction.end_ns / _NS_PER_S
            known_s = self.ledger.known_until_s(gpus)
            if (known_s is None or known_s < end_s) and self._clock() - ended.since_s < MOST_WAIT_S:
                self._ended.append(ended)
                continue
            start_s = (prediction.start_ns or 0) / _NS_PER_S
            launched_s = self._runs.launch_of((ended.model[0], prediction.model), end_s)
            if launched_s is not None:  # what came before was waiting for a slot
                start_s = min(max(start_s, launched_s), end_s)
            joules = self.ledger.claim(ended.model, gpus, start_s, end_s)
            if joules is not None:
                self._count(*ended.model, prediction.client, joules)
            ended.then(msgspec.structs.replace(prediction, energy_joules=joules))


class EnergySink:
    """A sink of one daemon's log stream: has predictions wait for their energy, then gives them to another sink."""

    name = "energy"

    def __init__(
        self, daemon: str, watch: EnergyWatch, *, model_key: Callable[[str], str], then: Sink | None
    ) -> None:
        self._daemon = daemon
        self._watch = watch
        self._model_key = model_key
        self._then = then
        self._failed = False

    def take_prediction(self, prediction: Prediction) -> None:
        """Take a finished prediction."""
        model = self._daemon, self._model_key(prediction.model)
        self._watch.request_ended(model, prediction, self._hand_on)

    def take_log(self, event: ServerLog | RuntimeLog) -> None:
        """Hand on at once: log lines have no energy."""
        if self._then is not None:
            self._then.take_log(event)

    def _hand_on(self, prediction: Prediction) -> None:
        """Give a prediction to the next sink, whose failure costs that item only."""
        if self._then is None:
            return
        try:
            self._then.take_prediction(prediction)
        except Exception:
            if not self._failed:
                self._failed = True
                log.exception("sink lost an item", extra={"sink": self._then.name})
