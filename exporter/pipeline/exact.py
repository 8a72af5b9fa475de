"""Turns the live events of one `/api/v1/chat` into a `Prediction` whose times are measured, not shared out.

Knows no socket and no clock: the caller says when each event arrived. Keeps no content.

Source: the official docs page "Streaming events" and published captures. Observed: `prompt_processing.end` may come
twice, and an `error` event does not end the stream.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any, Final, TypeAlias

import msgspec

from exporter.pipeline.predictions import FinishedReason, Phase, Prediction
from exporter.pipeline.segments import Kind

_NS: Final = 1_000_000_000
_KINDS: Final = {"reasoning": Kind.REASONING, "message": Kind.ANSWER, "tool_call": Kind.TOOL_CALL}
_MAX_PHASES: Final = 64
_MAX_TOOL_CHARS: Final = 64

_Stretch: TypeAlias = tuple[Kind, int, int, tuple[str, ...]]
"""Kind, start and end in Unix nanoseconds, tools."""


class _Stats(msgspec.Struct, frozen=True):
    """`result.stats` of chat.end."""

    input_tokens: float | None = None
    total_output_tokens: float | None = None
    reasoning_output_tokens: float | None = None
    tokens_per_second: float | None = None
    time_to_first_token_seconds: float | None = None


class Timeline:
    """The phases of one chat, from its events in order."""

    def __init__(self, *, daemon: str, model: str) -> None:
        self._daemon = daemon
        self._model = model
        self._start_ns: int | None = None
        self._first_ns: int | None = None
        self._phases: list[_Stretch] = []
        self._open: tuple[Kind, int] | None = None
        self._tool = ""
        self._failed = False

    def take(self, type_: str, at_ns: int, *, result: Any = None, tool: str = "") -> Prediction | None:
        """Take the next event; `chat.end` gives the prediction. Times are Unix nanoseconds and never go back.

        `result` is that of chat.end, `tool` the name a tool_call event carries.
        """
        self._tool = tool[:_MAX_TOOL_CHARS] or self._tool
        subject, _, what = type_.partition(".")
        if self._start_ns is None:
            self._start_ns = at_ns
        if type_ in {"chat.start", "model_load.end"} or (
            type_ == "prompt_processing.start" and self._first_ns is None
        ):
            # Loading a model is not predicting: the clock starts anew when it is there.
            self._start_ns, self._first_ns, self._open = at_ns, None, None
            self._phases.clear()
        elif type_ == "error":
            self._failed = True
        elif type_ == "chat.end":
            return self._finish(at_ns, result)
        elif subject in _KINDS:
            self._step(_KINDS[subject], what, at_ns)
        return None

    def _step(self, kind: Kind, what: str, at_ns: int) -> None:
        if self._first_ns is None:
            self._first_ns = at_ns
        if self._open is not None and (self._open[0] is not kind or what == "start"):
            self._close(at_ns)
        if self._open is None and what not in {"end", "success", "failure"}:
            self._open = (kind, at_ns)
        elif what in {"end", "success", "failure"}:
            self._close(at_ns)

    def _close(self, at_ns: int) -> None:
        if self._open is None:
            return
        kind, start_ns = self._open
        tools = (self._tool,) if kind is Kind.TOOL_CALL and self._tool else ()
        if len(self._phases) < _MAX_PHASES:
            self._phases.append((kind, start_ns, max(start_ns, at_ns), tools))
        self._open = None

    def _finish(self, end_ns: int, result: Any) -> Prediction:
        self._close(end_ns)
        start_ns = end_ns if self._start_ns is None else self._start_ns
        first_ns = end_ns if self._first_ns is None else self._first_ns
        stats = _stats_of(result)
        decode_s = (end_ns - first_ns) / _NS
        reasoning_s = sum(end - start for kind, start, end, _ in self._phases if kind is Kind.REASONING) / _NS
        digest = hashlib.sha256(f"{self._daemon}\0{self._model}\0{start_ns}\0{end_ns}".encode()).digest()
        return Prediction(
            daemon=self._daemon,
            model=self._model,
            model_path=None,
            timing="exact",
            start_ns=start_ns,
            end_ns=end_ns,
            time_to_first_token_s=(first_ns - start_ns) / _NS,
            decode_s=decode_s,
            duration_s=(end_ns - start_ns) / _NS,
            tokens_per_second=_positive(stats.tokens_per_second),
            prompt_tokens=_count(stats.input_tokens),
            predicted_tokens=_count(stats.total_output_tokens),
            context_length=None,
            context_utilization=None,
            # chat.end does not say why the model stopped.
            finished_reason=FinishedReason.ERROR if self._failed else FinishedReason.UNKNOWN,
            stop_reason=None,
            phases=tuple(_phase(stretch, first_ns, decode_s) for stretch in self._phases),
            reasoning_s=reasoning_s,
            reasoning_tokens_estimated=_count(stats.reasoning_output_tokens),
            tool_calls=tuple(tool for _, _, _, tools in self._phases for tool in tools),
            draft_model=None,
            draft_tokens=None,
            draft_tokens_accepted=None,
            trace_id=int.from_bytes(digest[:16], "big") or 1,
            span_id=int.from_bytes(digest[16:24], "big") or 1,
            conversation_id=None,
            turn=1,
            previous=None,
            paired=True,
        )


def _phase(stretch: _Stretch, first_ns: int, decode_s: float) -> Phase:
    kind, start_ns, end_ns, tools = stretch
    duration_s = (end_ns - start_ns) / _NS
    return Phase(
        kind=kind,
        share=min(1.0, duration_s / decode_s) if decode_s > 0 else 0.0,
        offset_s=(start_ns - first_ns) / _NS,
        duration_s=duration_s,
        start_char=0,
        end_char=0,
        tools=tools,
    )


def _stats_of(result: Any) -> _Stats:
    stats = result.get("stats") if isinstance(result, dict) else None
    try:
        return msgspec.convert(stats if isinstance(stats, dict) else {}, _Stats)
    except msgspec.ValidationError:
        return _Stats()


def _count(value: float | None) -> int | None:
    return None if value is None or not math.isfinite(value) or value < 0 else int(value)


def _positive(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and value > 0 else None
