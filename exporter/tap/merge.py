"""Makes one prediction from the log stream's report and the tap's, or from the tap's alone. Pure.

Counts, TTFT and rates stay the daemon's; when what arrived, client and trace are the tap's. Without the log stream
there is neither conversation nor the daemon's rate, and a count only where the answer stated it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec

from exporter.pipeline.output.segments import Kind
from exporter.pipeline.phases import Phase
from exporter.pipeline.predictions import FinishedReason, Prediction, Timing
from exporter.tap.report import PhaseMark, Report

_NS_PER_S: Final = 1_000_000_000
_FINISHED: Final = {
    "stop": FinishedReason.STOP,
    "end_turn": FinishedReason.STOP,
    "stop_sequence": FinishedReason.STOP,
    "completed": FinishedReason.STOP,
    "eosFound": FinishedReason.STOP,
    "stopStringFound": FinishedReason.STOP,
    "length": FinishedReason.LENGTH,
    "max_tokens": FinishedReason.LENGTH,
    "max_output_tokens": FinishedReason.LENGTH,
    "maxPredictedTokensReached": FinishedReason.LENGTH,
    "contextLengthReached": FinishedReason.LENGTH,
    "tool_calls": FinishedReason.TOOL_CALLS,
    "tool_use": FinishedReason.TOOL_CALLS,
    "toolCalls": FinishedReason.TOOL_CALLS,
    "userStopped": FinishedReason.ABORT,
    "modelUnloaded": FinishedReason.ABORT,
    "failed": FinishedReason.ERROR,
}
"""Source: the API references that tap/formats.py names, and llmPredictionStopReasonSchema."""


def merged(prediction: Prediction, report: Report) -> Prediction:
    """Return the log stream's prediction with the values that only the tap has."""
    share = report.reasoning_share
    prompt, predicted = prediction.prompt_tokens, prediction.predicted_tokens
    if prompt is None and predicted is None:  # logged without stats
        prompt, predicted = report.usage.input, report.usage.output
    changes: dict[str, object] = {
        "client": report.client,
        "prompt_tokens": prompt,
        "predicted_tokens": predicted,
        "cached_tokens": prediction.cached_tokens if report.usage.cached is None else report.usage.cached,
        **_trace(prediction.trace_id, report),
    }
    if share is not None and predicted is not None:
        changes["reasoning_tokens_estimated"] = round(predicted * share)
    if report.ttft_s is not None and [phase.kind for phase in prediction.phases] == [
        mark.kind for mark in report.phases
    ]:
        marks = _phases(report.phases, report.ttft_s)
        changes["phases"] = tuple(
            msgspec.structs.replace(
                mark, start_char=phase.start_char, end_char=phase.end_char, tools=phase.tools
            )
            for mark, phase in zip(marks, prediction.phases, strict=True)
        )
        changes["reasoning_s"] = _reasoning_s(report.phases)
        changes["start_ns"] = report.start_ns
        changes["end_ns"] = report.end_ns
        changes["first_token_ns"] = report.start_ns + round(report.ttft_s * _NS_PER_S)
        changes["timing"] = Timing.EXACT
    return msgspec.structs.replace(prediction, **changes)


def alone(daemon: str, report: Report) -> Prediction:
    """Make a prediction of the tap's report, where the log stream has none."""
    key = f"{daemon}\0{report.start_ns}\0{report.id}\0{report.client}\0{report.model}".encode()
    digest = hashlib.sha256(key).digest()
    own_trace = int.from_bytes(digest[:16], "big") or 1
    trace = _trace(own_trace, report)
    first_ns = None if report.ttft_s is None else report.start_ns + round(report.ttft_s * _NS_PER_S)
    decode_s = None if report.ttft_s is None else report.e2e_s - report.ttft_s
    predicted, share = report.usage.output, report.reasoning_share
    rate = predicted / decode_s if predicted and decode_s else None
    return Prediction(
        daemon=daemon,
        model=report.model,
        model_path=None,
        start_ns=report.start_ns,
        end_ns=report.end_ns,
        time_to_first_token_s=report.ttft_s,
        decode_s=decode_s,
        duration_s=report.e2e_s,
        tokens_per_second=rate,
        prompt_tokens=report.usage.input,
        predicted_tokens=predicted,
        context_length=None,
        context_utilization=None,
        finished_reason=_finished(report),
        stop_reason=report.finish,
        phases=_phases(report.phases, report.ttft_s or 0.0),
        reasoning_s=_reasoning_s(report.phases) if report.phases else None,
        reasoning_tokens_estimated=None if predicted is None or share is None else round(predicted * share),
        tool_calls=report.tools,
        draft_model=None,
        draft_tokens=None,
        draft_tokens_accepted=None,
        trace_id=trace.get("trace_id", own_trace),
        span_id=int.from_bytes(digest[16:24], "big") or 1,
        conversation_id=None,
        turn=1,
        previous=None,
        paired=False,
        client=report.client,
        cached_tokens=report.usage.cached,
        parent_span_id=trace.get("parent_span_id"),
        timing=Timing.EXACT,
        first_token_ns=first_ns,
    )


def estimated_share(prediction: Prediction) -> float | None:
    """Give the share of reasoning as the log stream's text suggests it; None where there was no text."""
    if not prediction.phases:
        return None
    return sum(phase.share for phase in prediction.phases if phase.kind is Kind.REASONING)


def _trace(own: int, report: Report) -> dict[str, int]:
    """Join the caller's trace, where predictions have traces at all and the caller's is sampled."""
    if not own or report.trace_id is None or report.parent_id is None or not report.is_sampled:
        return {}
    return {"trace_id": int(report.trace_id, 16), "parent_span_id": int(report.parent_id, 16)}


def _phases(marks: Sequence[PhaseMark], first_s: float) -> tuple[Phase, ...]:
    tokens = sum(mark.tokens for mark in marks) or 1
    return tuple(
        Phase(mark.kind, mark.tokens / tokens, mark.start_s - first_s, mark.end_s - mark.start_s, 0, 0)
        for mark in marks
    )


def _reasoning_s(marks: Sequence[PhaseMark]) -> float:
    return sum(mark.end_s - mark.start_s for mark in marks if mark.kind is Kind.REASONING)


def _finished(report: Report) -> FinishedReason:
    if report.error is not None:
        return FinishedReason.ERROR
    if report.cancelled or report.cut:
        return FinishedReason.ABORT
    return _FINISHED.get(report.finish or "", FinishedReason.UNKNOWN)
