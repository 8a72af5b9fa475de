"""Follows one engine as one log channel tells of it: slots, counts, and which lines are believed.

Does not know clocks or channels: times are the events'. A line moves a slot only if it fits what is known. Text that a
user makes the engine echo at the beginning of a line (a malformed grammar is printed raw) can look like a line:
- where the engine stamps its lines, a line without a stamp, or with one that is not between the last line's and now,
  is not believed;
- a slot beyond the engine's number of slots is not believed;
- once the engine was seen to select slots, a launch is believed only on the slot selected last; before it, launches of
  its children (n > 1) are believed until it turns out that the request could not be launched;
- a task that was never launched is believed only on a slot of which nothing is known yet.
What remains possible: text that guesses the engine's uptime to a few seconds, and the slot it selects, keeps that slot
busy until the engine selects it again, releases it or reports that all are idle.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

import msgspec

from exporter.pipeline.log_formats.engine import MAX_SLOTS, EngineLine, What
from exporter.pipeline.slot_state import Slot, SlotState

_STAMP_JITTER_MS: Final = 5_000
_RESYNC_MS: Final = 60_000
"""An engine whose stamps did not fit for so long has started anew without saying so."""
_MAX_REQUESTS: Final = 64
_MATCH_MS: Final = 30_000


class EngineCounts(msgspec.Struct):
    """What happened in an engine. Counts grow as long as it runs."""

    cached_tokens: int = 0
    processed_tokens: int = 0
    """Prompt tokens served from the cache, and evaluated; of the requests for which both are known."""
    truncated: int = 0
    shifted: int = 0
    cancelled: int = 0
    context_exceeded: int = 0
    too_large: int = 0
    failed: int = 0

    def merged(self, other: EngineCounts) -> EngineCounts:
        """Give the larger of each count: two channels tell of the same events."""
        return EngineCounts(
            *(max(getattr(self, name), getattr(other, name)) for name in self.__struct_fields__)
        )


class _Moment(msgspec.Struct, frozen=True):
    """When a line was printed: by the engine's stamp, if it has one, and by the daemon's clock."""

    stamp_ms: int | None
    at_ms: int

    def until_ms(self, later: _Moment) -> int:
        """Milliseconds from this to `later`, by the finer clock that both have."""
        if self.stamp_ms is None or later.stamp_ms is None:
            return later.at_ms - self.at_ms
        return later.stamp_ms - self.stamp_ms


class _Request(msgspec.Struct, frozen=True):
    """A request whose prompt was evaluated, for the prediction that it belongs to."""

    at_ms: int
    processed: int
    generated: int | None
    cached: int | None


class EngineState:
    """One engine over one channel."""

    def __init__(self) -> None:
        self.counts = EngineCounts()
        self.queue_s: list[float] = []
        """Times between deferral and launch; the owner takes them after each line."""
        self._requests: deque[_Request] = deque(maxlen=_MAX_REQUESTS)
        self._failed: OrderedDict[int, What] = OrderedDict()
        self._cancelled: EngineLine | None = None
        """The last line, if it counted a request as cancelled: it may have been cut in the task's number."""
        self.is_one_process = False
        """Whether another process would have another state: then this one starts once."""
        self.heard_ms = 0
        self.moves = 0
        """Times that a slot became busy or idle."""
        self.lines = 0
        """Lines that were believed in their time."""
        self._stamp_ms: int | None = None
        self._begin()

    def _begin(self) -> None:
        self.moves += 1
        self._slots: dict[int, SlotState] = {}
        self._deferred: OrderedDict[int, _Moment] = OrderedDict()
        self.n_slots: int | None = None
        self.context_per_slot: int | None = None
        self.kv_unified: bool | None = None
        self._selects = False
        self._selected: int | None = None
        self._launched: int | None = None
        """The slot launched last, while nothing else was told of it."""
        self._children: list[int] = []
        """Slots launched as children of a request that is not launched yet."""

    @property
    def knows_slots(self) -> bool:
        """Whether anything was told of slots."""
        return bool(self._slots)

    @property
    def position(self) -> tuple[int, int]:
        """How far the channel is: the engine's last stamp, 0 without stamps, and the number of lines."""
        return (self._stamp_ms or 0, self.lines)

    def slots(self, now_ms: int | None) -> dict[int, Slot]:
        """Return the slots as of `now_ms`, by the daemon's clock; None: as of the last line."""
        now_ms = self.heard_ms if now_ms is None else now_ms
        return {number: slot.seen(now_ms) for number, slot in sorted(self._slots.items())}

    def last_progress_ms(self) -> int | None:
        """Return when any slot last made progress."""
        return max((slot.changed_ms for slot in self._slots.values() if slot.changed_ms), default=None)

    def take(self, line: EngineLine, now_ms: int) -> bool:
        """Take in a line that was logged at `now_ms`; tell whether a slot became busy or idle."""
        moves = self.moves
        number = line.slot
        if number is None and line.what is What.STARTED:
            self._start(line, now_ms)
        if not self._is_in_time(line.stamp_ms, now_ms):
            return self.moves != moves
        self.heard_ms = max(self.heard_ms, now_ms)
        self.lines += 1
        if number is None:
            self._take_server_line(line, now_ms)
        elif self.n_slots is None or number < self.n_slots:
            self._take_slot_line(line, number, now_ms)
        return self.moves != moves

    def _take_server_line(self, line: EngineLine, now_ms: int) -> None:
        match line.what:
            case What.ALL_IDLE:
                self._free_all(now_ms)
            case What.ENDED:
                self._begin()
            case What.CONTEXT_EXCEEDED | What.TOO_LARGE | What.TASK_FAILED | What.CANCELLED:
                self._fail(line)
            case What.NOT_LAUNCHED:
                self._undo_launch(now_ms)
            case What.DEFERRED if line.task is not None:
                self._deferred.setdefault(line.task, _Moment(line.stamp_ms, now_ms))
                while len(self._deferred) > _MAX_REQUESTS:
                    self._deferred.popitem(last=False)
            case _:
                pass

    def cache_restored(self, cached: int, uncached: int, now_ms: int) -> None:
        """Take in LM Studio's own word on the prompt cache."""
        self.heard_ms = max(self.heard_ms, now_ms)
        self.lines += 1
        self.counts.cached_tokens += cached
        self.counts.processed_tokens += uncached
        self._requests.append(_Request(now_ms, uncached, None, cached))

    def take_cached_tokens(self, prompt_tokens: int, generated: int | None, end_ms: int) -> int | None:
        """Return how much of a prediction's prompt came from the cache; None unless exactly one request fits it."""
        fitting = [
            request
            for request in self._requests
            if abs(end_ms - request.at_ms) <= _MATCH_MS
            and (request.generated is None or generated is None or abs(request.generated - generated) <= 1)
            and (
                request.processed <= prompt_tokens
                if request.cached is None
                else abs(request.processed + request.cached - prompt_tokens) <= 1
            )
        ]
        distinct = {prompt_tokens - request.processed for request in fitting}
        if len(distinct) != 1:
            return None
        self._requests.remove(fitting[0])
        return max(0, distinct.pop())

    def _is_in_time(self, stamp_ms: int | None, now_ms: int) -> bool:
        """Whether a line's stamp fits the last one's and the time since; the first one does."""
        last_ms = self._stamp_ms
        if last_ms is None:
            self._stamp_ms = stamp_ms
            return True
        if stamp_ms is None:
            return False
        ahead_ms = stamp_ms - last_ms
        if -_STAMP_JITTER_MS <= ahead_ms <= max(0, now_ms - self.heard_ms) + _STAMP_JITTER_MS:
            self._stamp_ms = max(stamp_ms, last_ms)
            return True
        if now_ms - self.heard_ms > _RESYNC_MS:
            self._begin()
            self._stamp_ms = stamp_ms
            return True
        return False

    def _start(self, line: EngineLine, now_ms: int) -> None:
        """Begin anew: a fresh engine, all of whose slots are idle. One that was heard before is not fresh."""
        last_ms, stamp_ms = self._stamp_ms, line.stamp_ms
        if last_ms is not None and (
            stamp_ms is None or stamp_ms > last_ms or (self.is_one_process and self.lines)
        ):
            return
        if self.is_one_process and self.lines and any(slot.changed_ms for slot in self._slots.values()):
            return
        self._begin()
        self._stamp_ms = line.stamp_ms
        self.heard_ms = now_ms
        slots, context, unified = line.values
        self.n_slots = min(int(slots or 0), MAX_SLOTS)
        self.context_per_slot = int(context or 0)
        self.kv_unified = unified == "true"
        self._slots = {number: SlotState() for number in range(self.n_slots)}

    def _take_slot_line(self, line: EngineLine, number: int, now_ms: int) -> None:
        task = line.task if line.task is not None else -1
        slot = self._slots.get(number)
        if slot is None or slot.task != task or not slot.busy:
            if line.what is What.SELECTED:
                self._select(number, task, now_ms)
                return
            if line.what is What.LAUNCHED:
                self._launch(slot, number, line, now_ms)
                return
            slot = self._of_another_task(slot, line, number, task)
            if slot is None:
                return
        elif line.what is What.SELECTED or line.what is What.LAUNCHED:
            return  # asked for by number, and busy: the request waits; or launched already
        if self._launched == number:
            self._launched = None
        slot.changed_ms = max(slot.changed_ms, now_ms)
        what = line.what
        if what is What.RELEASED:
            self._free(slot, now_ms)
            self._finish(slot, line)
        elif what is What.SHIFTED:
            self.counts.shifted += 1
        else:
            slot.take(line, now_ms)
            if what is What.DECODE_DONE and slot.processed_tokens is not None:
                self._requests.append(_Request(now_ms, slot.processed_tokens, slot.generated_tokens, None))

    def _of_another_task(
        self, slot: SlotState | None, line: EngineLine, number: int, task: int
    ) -> SlotState | None:
        """Return the slot of a line about a task that is not known to run on it, if the line is believed."""
        if slot is None:
            slot = self._slots[number] = SlotState()
        if slot.task == task:
            if line.what is What.RELEASED:
                self._finish(slot, line)  # the rest of a line that was cut
            return None
        if slot.task != -1 or (self.n_slots is not None and slot.changed_ms == 0):
            return None
        slot.task, slot.busy = (
            task,
            line.what is not What.RELEASED,
        )  # it was launched before anything was heard
        return slot

    def _select(self, number: int, task: int, now_ms: int) -> None:
        slot = self._slots.get(number)
        if slot is not None and slot.busy:
            if task != -1:
                return  # asked for by number, and busy: the request waits
            self._free(slot, now_ms)
        self._free_children(now_ms)
        self._selects = True
        self._selected = number
        self._launched = None

    def _launch(self, slot: SlotState | None, number: int, line: EngineLine, now_ms: int) -> None:
        task = line.task if line.task is not None else -1
        is_child = line.values == ("1",)
        if task < 0 or (slot is not None and slot.busy and slot.task == task):
            return
        if self._selects:
            if self._selected is None or (self._selected == number) is is_child:
                return
            if is_child:
                if slot is not None and slot.busy:
                    return
                self._children.append(number)
            else:
                self._keep_children(task, now_ms)
                self._selected = None
        if not is_child:
            self._launched = number
        self.moves += 1
        self._slots[number] = SlotState(True, task, changed_ms=now_ms, prompt_at_ms=now_ms)
        deferred = self._deferred.pop(task, None)
        if self._deferred or deferred is not None:
            waited_ms = 0 if deferred is None else deferred.until_ms(_Moment(line.stamp_ms, now_ms))
            self.queue_s.append(max(0, waited_ms) / 1000)

    def _keep_children(self, parent: int, now_ms: int) -> None:
        """Free those launched as children whose tasks do not follow their parent's."""
        self._children = [
            number for number in self._children if not parent < self._slots[number].task <= parent + MAX_SLOTS
        ]
        self._free_children(now_ms)

    def _free_children(self, now_ms: int) -> None:
        for number in self._children:
            self._free(self._slots[number], now_ms)
        self._children.clear()

    def _undo_launch(self, now_ms: int) -> None:
        """Free the slots that a request seemed to be launched on, which the engine could not launch."""
        slot = self._slots.get(self._launched) if self._launched is not None else None
        if slot is not None:
            self._free(slot, now_ms)
        self._free_children(now_ms)
        self._launched = self._selected = None

    def _free(self, slot: SlotState, now_ms: int) -> None:
        self.moves += 1
        slot.free(now_ms)

    def _free_all(self, now_ms: int) -> None:
        for slot in self._slots.values():
            if slot.busy:
                self._free(slot, now_ms)

    def _fail(self, line: EngineLine) -> None:
        """Count a request that failed or was cancelled, once: the engine cancels those that failed, too."""
        task, what = line.task, line.what
        if self._cancelled is not None and line.is_rest_of(self._cancelled):
            self.counts.cancelled -= 1
        self._cancelled = None
        if task is not None:
            self._deferred.pop(task, None)
        before = self._failed.get(task) if task is not None else what
        if task is None or (
            before is not None and (before is not What.TASK_FAILED or what is What.CANCELLED)
        ):
            return
        if before is not None:  # the rest of a line that was cut says why
            self.counts.failed -= 1
        self._cancelled = line if what is What.CANCELLED else None
        self._failed[task] = what
        while len(self._failed) > _MAX_REQUESTS:
            self._failed.popitem(last=False)
        counts = self.counts
        counts.context_exceeded += what is What.CONTEXT_EXCEEDED
        counts.too_large += what is What.TOO_LARGE
        counts.failed += what is What.TASK_FAILED
        counts.cancelled += what is What.CANCELLED

    def _finish(self, slot: SlotState, line: EngineLine) -> None:
        """Count what a release says of its request, once."""
        finished = slot.finish(line)
        if finished is None:
            return
        self.counts.truncated += finished.truncated
        if finished.cached is not None and finished.processed is not None:
            self.counts.cached_tokens += finished.cached
            self.counts.processed_tokens += finished.processed
