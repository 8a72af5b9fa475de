"""Turns the input and the output event of a prediction into one `Prediction`: times, phases, finish, conversation.

Does not depend on spans or metrics. Keeps no content unless configured, and reads no clock: times are the events', so
that replaying a recorded stream yields the same predictions, ids included.

Times: the end is the output's timestamp. The portable duration is TTFT + predicted tokens / tokens per second;
the daemon's totalTimeSec means different things on different engines and is never used. Decode time is shared out
among phases by characters of content, markup aside: an estimate, and marked as one.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from exporter.llmster.events import PredictionInput, PredictionOutput, PredictionStats
from exporter.pipeline import conversations
from exporter.pipeline.conversations import Conversations, Fingerprint, PreviousTurn, Turn
from exporter.pipeline.output.call_names import UNKNOWN
from exporter.pipeline.output.ending import ending_of
from exporter.pipeline.output.reader import OutputReader, Reading
from exporter.pipeline.output.segments import Kind, Segment
from exporter.pipeline.pairing import Pairing
from exporter.pipeline.phases import Phase, share_out
from exporter.shared.internal_errors import InternalErrors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.llmster.events import LogEvent

STAGES = ("parse", "predict", "pair", "split", "conversation", "slots", "server_log", "sink", "stream")
"""Stages of the log pipeline in which an exception is caught and counted."""
_NO_STATS = PredictionStats()
_NO_TURN = Turn("", 1, 0, 0)
_MAX_KEPT_CHARS = 32_000_000
"""Prompts kept for their outputs, all together, when content is kept at all."""
FORGET_AFTER_S = 60.0
"""So long an instance must be gone before its inputs are given up: the outputs that an unload cut short come after it,
and an instance that has just been loaded may be missing from a snapshot that was under way."""
_NS_PER_MS = 1_000_000
_NS_PER_S = 1_000_000_000


class FinishedReason(StrEnum):
    """Why a prediction ended, in vLLM's words and two of our own (`tool_calls`, `unknown`)."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    ABORT = "abort"
    ERROR = "error"
    UNKNOWN = "unknown"
    """No stats came with the output, or a stop reason of a newer daemon."""


_FINISHED = {
    "eosFound": FinishedReason.STOP,
    "stopStringFound": FinishedReason.STOP,
    "maxPredictedTokensReached": FinishedReason.LENGTH,
    "contextLengthReached": FinishedReason.LENGTH,
    "toolCalls": FinishedReason.TOOL_CALLS,
    "userStopped": FinishedReason.ABORT,
    "modelUnloaded": FinishedReason.ABORT,
    "failed": FinishedReason.ERROR,
}  # source: llmPredictionStopReasonSchema


class Timing(StrEnum):
    """How the times of a prediction's phases are known."""

    ESTIMATED = "estimated"
    """Shared out by characters."""
    EXACT = "exact"
    """Seen as they arrived, by the tap."""


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """One finished prediction. None: the daemon did not say."""

    daemon: str
    model: str
    """Identifier of the loaded instance, as logged."""
    model_path: str | None
    start_ns: int | None
    """Unix time: the end less the duration, or when that is unknown the time of the input event."""
    end_ns: int
    time_to_first_token_s: float | None
    decode_s: float | None
    duration_s: float | None
    """Time to first token and decode time."""
    tokens_per_second: float | None
    prompt_tokens: int | None
    predicted_tokens: int | None
    context_length: int | None
    context_utilization: float | None
    """Prompt and predicted tokens over the context length, 0 to 1."""

    finished_reason: FinishedReason
    stop_reason: str | None
    phases: tuple[Phase, ...]
    reasoning_s: float | None
    reasoning_tokens_estimated: int | None
    """0 when a model that is known to reason did not; None when that is not known; at most `predicted_tokens`."""
    tool_calls: tuple[str, ...]
    """Names, one per call, as generated; made safe for a label."""
    draft_model: str | None
    draft_tokens: int | None
    draft_tokens_accepted: int | None

    trace_id: int
    span_id: int
    """0 when ids were not asked for."""
    conversation_id: str | None
    """None when the prompt is unknown, or ids were not asked for."""
    turn: int
    """1 for the first turn seen of its conversation."""
    previous: PreviousTurn | None
    paired: bool
    """Whether the input event was found."""
    prompt: str | None = None
    output: str | None = None
    """Content, only when kept."""
    ending: int = 0
    """Checksum of how it ends, output/ending.py; 0 unless it is wanted."""
    unrecognised_markup: bool = False
    """Whether the answer looks as if it held markup of a family that is not known."""
    cached_tokens: int | None = None
    """Prompt tokens taken from the prompt cache, as the engine's own lines tell."""
    timing: Timing = Timing.ESTIMATED
    first_token_ns: int | None = None
    """Unix time of the first token where it was seen; else the start and the time to first token say it."""
    client: str | None = None
    """Who asked; only what went through the tap has one."""
    parent_span_id: int | None = None
    """Of the caller's span, in the trace `trace_id`."""
    energy_joules: float | None = None
    """Of the GPUs, as exporter.pipeline.energy shares it."""


class _Input(msgspec.Struct):
    timestamp_ms: int
    model_path: str
    opened: str
    fingerprint: Fingerprint | None
    prompt: str | None


class PredictionBuilder:
    """Collects the events of one daemon; hands out a prediction per output."""

    def __init__(
        self,
        daemon: str,
        *,
        context_length: Callable[[str], int | None] = lambda _: None,
        reasoning_tags: tuple[tuple[str, str], ...] = (),
        tool_tags: tuple[tuple[str, str], ...] = (),
        keep_content: bool = False,
        identify: bool = True,
        sum_endings: bool = False,
        turns: int = 4096,
    ) -> None:
        """`context_length` maps an instance identifier to tokens; `turns` bounds the memory of conversations.

        With `sum_endings` they carry a checksum of how they end, for a tap that saw them, too.
        Without `identify` predictions get no ids and no conversation: metrics alone need no hashing.
        """
        self.errors = InternalErrors(*STAGES)
        self.cached_tokens: Callable[[str, int | None, int | None, int], int | None] = _not_told
        """Tells how many prompt tokens came from the cache: of instance, prompt and output tokens, and end in ms."""
        self._daemon = daemon
        self._context_length = context_length
        self._reader = OutputReader(reasoning_tags, tool_tags)
        self._keep = keep_content
        self._kept_chars = 0
        self._pairing: Pairing[_Input] = Pairing()
        self._gone_since: dict[str, float] = {}
        self._identify = identify
        self._sum_endings = sum_endings
        self._conversations = Conversations(self._reader.grammar, turns)
        self._same: dict[bytes, int] = {}  # predictions alike in everything, within one millisecond
        self._same_ms = 0

    @property
    def outputs_missed(self) -> int:
        """Outputs that came without their input."""
        return self._pairing.outputs_missed

    @property
    def inputs_missed(self) -> int:
        """Inputs that were given up before their output came."""
        return self._pairing.inputs_missed

    @property
    def waiting(self) -> int:
        """Inputs that wait for their output."""
        return len(self._pairing)

    def add(self, event: LogEvent) -> Prediction | None:
        """Take in an event; return the prediction it completes. Events of other kinds pass by."""
        if isinstance(event, PredictionOutput):
            return self._complete(event)
        if isinstance(event, PredictionInput):
            self._remember(event)
        return None

    def keep_only(self, instances: set[str], *, now_s: float) -> None:
        """Learn which instances are loaded; give up what waits for one that has been gone for FORGET_AFTER_S.

        `now_s` is any clock that never jumps.
        """
        gone = self._pairing.waited_for() - instances
        self._gone_since = {model: self._gone_since.get(model, now_s) for model in gone}
        for model, since_s in self._gone_since.items():
            if now_s - since_s >= FORGET_AFTER_S:
                self._release(self._pairing.forget(model))

    def reasons(self, instance: str) -> None:
        """Learn that an instance's model reasons: where an output holds no reasoning, there was none."""
        self._reader.reasons(instance)

    def _remember(self, event: PredictionInput) -> None:
        prompt = event.prompt
        keep = self._keep and self._kept_chars + len(prompt) <= _MAX_KEPT_CHARS
        if keep:
            self._kept_chars += len(prompt)
        remembered = _Input(
            event.timestamp_ms,
            event.model_path,
            self._reader.opening(prompt),
            self._conversations.read(prompt) if self._identify else None,
            prompt if keep else None,
        )
        self._release(self._pairing.put(event.model, event.timestamp_ms, len(prompt), remembered))

    def _release(self, inputs: list[_Input]) -> None:
        if self._kept_chars:
            self._kept_chars -= sum(len(given.prompt) for given in inputs if given.prompt is not None)

    def _complete(self, event: PredictionOutput) -> Prediction:
        stats = event.stats or _NO_STATS
        ttft_s = stats.time_to_first_token_s
        decode_s = _decode_s(stats)
        duration_s = None if ttft_s is None or decode_s is None else ttft_s + decode_s
        paired = self._pair(event, duration_s, stats.prompt_tokens)
        finished = _FINISHED.get(stats.stop_reason or "", FinishedReason.UNKNOWN)
        reading = self._read(event, paired.opened if paired else "", finished)
        segments = reading.segments
        phases, reasoning = share_out(segments, decode_s)
        turn, previous = self._place(event, paired, segments)
        context_length = self._context_length(event.model)
        predicted = stats.predicted_tokens
        return Prediction(
            daemon=self._daemon,
            model=event.model,
            model_path=paired.model_path if paired else None,
            start_ns=_start_ns(event.timestamp_ms, duration_s, paired.timestamp_ms if paired else None),
            end_ns=event.timestamp_ms * _NS_PER_MS,
            time_to_first_token_s=ttft_s,
            decode_s=decode_s,
            duration_s=duration_s,
            tokens_per_second=stats.tokens_per_second,
            prompt_tokens=stats.prompt_tokens,
            predicted_tokens=predicted,
            context_length=context_length,
            context_utilization=_utilization(stats, context_length),
            finished_reason=finished,
            stop_reason=stats.stop_reason,
            phases=phases,
            reasoning_s=decode_s * reasoning if reading.reasons and decode_s is not None else None,
            reasoning_tokens_estimated=round(predicted * reasoning)
            if reading.reasons and predicted is not None
            else None,
            tool_calls=reading.tool_calls,
            draft_model=stats.draft_model,
            draft_tokens=stats.draft_tokens,
            draft_tokens_accepted=stats.draft_tokens_accepted,
            trace_id=turn.trace_id,
            span_id=turn.span_id,
            conversation_id=turn.conversation_id or None if paired else None,
            turn=turn.number,
            previous=previous,
            paired=paired is not None,
            prompt=paired.prompt if paired else None,
            output=event.output if self._keep else None,
            ending=ending_of(event.output, segments) if self._sum_endings else 0,
            unrecognised_markup=reading.unrecognised,
            cached_tokens=self._cached(event, stats),
        )

    # A bug in one step costs what that step adds: the prediction is counted all the same.
    def _pair(self, event: PredictionOutput, duration_s: float | None, tokens: int | None) -> _Input | None:
        paired = None
        with self.errors.catch("pair"):
            paired = self._pairing.take(event.model, event.timestamp_ms, duration_s, tokens)
            if paired is not None:
                self._release([paired])
        return paired

    def _cached(self, event: PredictionOutput, stats: PredictionStats) -> int | None:
        with self.errors.catch("slots"):
            return self.cached_tokens(
                event.model, stats.prompt_tokens, stats.predicted_tokens, event.timestamp_ms
            )
        return None

    def _read(self, event: PredictionOutput, opened: str, finished: FinishedReason) -> Reading:
        called = finished is FinishedReason.TOOL_CALLS
        with self.errors.catch("split"):
            return self._reader.read(event.model, event.output, opened, called=called)
        return Reading(tool_calls=(UNKNOWN,) if called else ())

    def _place(
        self, event: PredictionOutput, paired: _Input | None, segments: Sequence[Segment]
    ) -> tuple[Turn, PreviousTurn | None]:
        placed: tuple[Turn, PreviousTurn | None] = (_NO_TURN, None)
        if self._identify:
            with self.errors.catch("conversation"):
                placed = self._turn(event, paired, segments)
        return placed

    def _turn(
        self, event: PredictionOutput, paired: _Input | None, segments: Sequence[Segment]
    ) -> tuple[Turn, PreviousTurn | None]:
        """Name the prediction, find the turn it continues, and remember it for the turns to come."""
        if paired is None or paired.fingerprint is None:
            trace_id, span_id, own_conversation = self._ids(event)
            return Turn(own_conversation, 1, trace_id, span_id), None
        fingerprint = paired.fingerprint
        together = conversations.whole(fingerprint, event.output)
        trace_id, span_id, own_conversation = self._ids(event)
        previous = fingerprint.previous
        turn = Turn(
            previous.turn.conversation_id if previous else own_conversation,
            previous.turn.number + 1 if previous else 1,
            trace_id,
            span_id,
        )
        said = [s for s in segments if not s.blank and s.kind is not Kind.TOOL_CALL][:4]
        heads = [conversations.head(event.output, segment) for segment in said]
        called = any(segment.kind is Kind.TOOL_CALL for segment in segments)
        self._conversations.add(fingerprint, together, heads, turn, called=called)
        return turn, previous

    def _ids(self, event: PredictionOutput) -> tuple[int, int, str]:
        """Return trace id, span id and the id of a conversation that begins here, from time and measurements alone.

        Text has no part in it: an id derived from text confirms a guess of that text to everyone who reads the trace.
        """
        stats = event.stats or PredictionStats()
        counts = f"{stats.prompt_tokens}\0{stats.predicted_tokens}\0{stats.tokens_per_second}"
        where = f"{self._daemon}\0{event.model}\0{event.timestamp_ms}\0{counts}"
        key = where.encode("utf-8", "surrogatepass")
        if event.timestamp_ms != self._same_ms:
            self._same_ms = event.timestamp_ms
            self._same.clear()
        count = self._same[key] = self._same.get(key, 0) + 1
        digest = hashlib.sha256(key + count.to_bytes(8, "big")).digest()
        return (
            int.from_bytes(digest[:16], "big") or 1,
            int.from_bytes(digest[16:24], "big") or 1,
            digest[24:].hex(),
        )


def _not_told(_model: str, _prompt: int | None, _predicted: int | None, _end_ms: int) -> None:
    return None


def child_span_id(prediction: Prediction, index: int) -> int:
    """Return the id of the `index`-th child of a prediction's root span; the same on every replay."""
    key = prediction.span_id.to_bytes(8, "big") + index.to_bytes(8, "big")
    digest = hashlib.sha256(prediction.trace_id.to_bytes(16, "big") + key).digest()
    return int.from_bytes(digest[:8], "big") or 1


def _decode_s(stats: PredictionStats) -> float | None:
    if stats.predicted_tokens == 0:
        return 0.0
    if stats.predicted_tokens is None or stats.tokens_per_second is None:
        return None
    return stats.predicted_tokens / stats.tokens_per_second


def _start_ns(end_ms: int, duration_s: float | None, input_ms: int | None) -> int | None:
    """Return the start; without a duration the input's time stands in, which may be as late as the end."""
    if duration_s is not None:
        return max(0, end_ms * _NS_PER_MS - round(duration_s * _NS_PER_S))
    return None if input_ms is None else min(input_ms, end_ms) * _NS_PER_MS


def _utilization(stats: PredictionStats, context_length: int | None) -> float | None:
    if not context_length or stats.prompt_tokens is None or stats.predicted_tokens is None:
        return None
    return min(1.0, (stats.prompt_tokens + stats.predicted_tokens) / context_length)
