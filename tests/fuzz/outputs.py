"""Targets: a model's raw output split into reasoning, answer and tool calls, and predictions made of such outputs.

Knows the tags only as texts to throw in; where a segment must lie is never worked out here, only what must hold anyway.
"""

import math
from collections import Counter
from typing import Final

from exporter.collectors.prediction_metrics import PredictionMetrics
from exporter.llmster.events import LogEvent, PredictionInput, PredictionOutput, PredictionStats
from exporter.pipeline.log_stream import EventFlow
from exporter.pipeline.output import call_names
from exporter.pipeline.output.families import REASONING_TAGS, TOOL_TAGS
from exporter.pipeline.output.grammar import grammar
from exporter.pipeline.output.segments import Kind, Segment
from exporter.pipeline.output.splitter import Splitter, split
from exporter.pipeline.predictions import FORGET_AFTER_S, Prediction, PredictionBuilder
from tests.fuzz.choices import Choices

PIECES: Final = (
    *(text for tag in REASONING_TAGS for text in (tag.open, tag.close)),
    *(text for tool in TOOL_TAGS for text in (tool.open, tool.close or "]")),
    "<|channel|>analysis<|message|>", "<|channel|>final<|message|>", "<|channel|>commentary to=functions.x ",
    "<|start|>assistant", "<|message|>", "<|end|>", "<|return|>", "<|call|>", "<|channel|>", "to=functions.f ",
    "\n", "\n\n", " ", "```\n", "~~~\n", "`", '"', "'", "\\", '{"name": "f", "arguments": {}}', "<function=f>",
    "call:f{", "[{", "f[ARGS]{", "hello", "x" * 130, "<", "<thin", "k>", "</", "[", "\N{GRINNING FACE}", "\ud83d",
)  # fmt: skip
_OPENED: Final = ("", "<think>\n", "<think></think>", "[THINK]", "<|start|>assistant", "<plan>")
_CUSTOM: Final = (("<plan>", "</plan>"),)


def reasoning(choices: Choices) -> None:
    """Any chunking yields the same segments, they tile the output, and what was decided is never taken back."""
    opened = choices.pick(_OPENED)
    custom = grammar(_CUSTOM if choices.flag() else ())
    vocabulary = (*PIECES, "<plan>", "</plan>")
    cuts = [choices.upto(200) for _ in range(choices.upto(12))]
    output = choices.pieces(vocabulary, 40)
    whole = split(output, opened, custom)
    splitter = Splitter(opened, custom)
    fed: list[Segment] = []
    at = 0
    for size in cuts:
        fed += splitter.feed(output[at : at + size])
        at += size
        certain = fed[-1].end if fed else 0
        assert certain <= at, f"segments up to {certain} are called certain after {at} characters"
    fed += splitter.feed(output[at:])
    fed += splitter.finish()
    assert fed == whole, f"{output!r} in chunks of {cuts}: {fed}, at once: {whole}"
    _tile(output, whole)
    # Whatever comes later, segments that a stream was given stay.
    prefix = Splitter(opened, custom)
    early = prefix.feed(output[: sum(cuts)])
    assert whole[: len(early)] == early, f"{output!r}: {early} became {whole}"
    assert splitter.scanned <= 200 * (len(output) + 200), (
        f"{splitter.scanned} looks at {len(output)} characters"
    )


def _tile(output: str, segments: list[Segment]) -> None:
    at = 0
    for segment in segments:
        assert segment.start == at, f"{output!r}: a gap or an overlap at {at}: {segments}"
        assert segment.start <= segment.content_start <= segment.content_end <= segment.end, segment
        assert segment.end > segment.start, segment
        content = output[segment.content_start : segment.content_end]
        assert segment.blank == (
            not content.strip(" \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85") or content.isspace()
        ), (
            segment,
            content,
        )
        assert (segment.kind is Kind.TOOL_CALL) == bool(segment.tools), segment
        assert all(tool == call_names.plain_name(tool) for tool in segment.tools), segment
        at = segment.end
    assert at == len(output), f"{output!r}: {len(output) - at} characters are in no segment"


def _stats(choices: Choices) -> PredictionStats | None:
    if choices.rarely():
        return None
    return PredictionStats(
        stop_reason=choices.pick(("eosFound", "failed", "toolCalls", "newOne", None)),
        tokens_per_second=choices.pick((None, 0.5, 28.66, 500_000.0)),
        time_to_first_token_s=choices.pick((None, 0.0, 0.25, 3600.0)),
        prompt_tokens=choices.pick((None, 0, choices.upto(9999), 10**9)),
        predicted_tokens=choices.pick((None, 0, choices.upto(9999), 10**9)),
        draft_tokens=choices.pick((None, 0, choices.upto(99))),
        draft_tokens_accepted=choices.pick((None, 0, choices.upto(99))),
    )


class _Book:
    """What was handed in, and every prediction that came out."""

    name = "book"

    def __init__(self) -> None:
        self.taken: list[Prediction] = []

    def take_prediction(self, prediction: Prediction) -> None:
        self.taken.append(prediction)

    def take_log(self, event: object) -> None:
        raise AssertionError(f"{event} is no log line")


def _unload(builder: PredictionBuilder, left: set[str]) -> None:
    for now_s in (0.0, FORGET_AFTER_S):
        builder.keep_only(left, now_s=now_s)


def predictions(choices: Choices) -> None:
    """Whatever the order of inputs and outputs: one prediction per output, sums exact, every input accounted for."""
    models = ("a", "b", "c\ufffd")
    identify = choices.flag()
    builder = PredictionBuilder(
        "box", keep_content=choices.flag(), identify=identify, context_length=lambda _: 4096, turns=8
    )
    metrics, book = PredictionMetrics("box"), _Book()
    flow = EventFlow(builder, [metrics, book])
    sent: list[PredictionOutput] = []
    inputs = 0
    now = 1_795_351_872_748
    for _ in range(choices.upto(30)):
        now += choices.pick((0, 1, 5, 900, 60_000, -3, 7 * 3_600_000))
        model = choices.pick(models)
        event: LogEvent
        if choices.flag():
            event = PredictionInput(now, model, "path", choices.pieces(PIECES, 4))
            inputs += 1
        else:
            event = PredictionOutput(now, model, choices.pieces(PIECES, 6), _stats(choices))
            sent.append(event)
        flow.take(event)
        if choices.rarely():
            _unload(builder, set(models) - {model})
    assert len(book.taken) == len(sent), f"{len(sent)} outputs became {len(book.taken)} predictions"
    paired = sum(prediction.paired for prediction in book.taken)
    assert paired + builder.outputs_missed == len(sent)
    assert paired + builder.inputs_missed + builder.waiting == inputs, "an input was lost or counted twice"
    _unload(builder, set())
    assert builder.waiting == 0
    assert builder._kept_chars == 0, f"{builder._kept_chars} characters of prompts are kept for nobody"
    for prediction, output in zip(book.taken, sent, strict=True):
        _fits(prediction, output, identify=identify)
    _sums(metrics, sent)
    assert not flow.counts.sink_failures, flow.counts.sink_failures


def _fits(prediction: Prediction, output: PredictionOutput, *, identify: bool) -> None:
    stats = output.stats or PredictionStats()
    assert (prediction.model, prediction.end_ns) == (output.model, output.timestamp_ms * 1_000_000)
    assert (prediction.prompt_tokens, prediction.predicted_tokens) == (
        stats.prompt_tokens,
        stats.predicted_tokens,
    )
    if prediction.phases:
        assert math.isclose(math.fsum(phase.share for phase in prediction.phases), 1.0, abs_tol=1e-6)
    at = 0
    for phase in prediction.phases:
        assert at <= phase.start_char <= phase.end_char <= len(output.output), (phase, output.output)
        at = phase.end_char
    reasoning = prediction.reasoning_tokens_estimated
    if reasoning is None:  # not known, of a model that was never seen to reason
        reasons = any(phase.kind is Kind.REASONING for phase in prediction.phases)
        assert prediction.predicted_tokens is None or not reasons
    else:
        assert prediction.predicted_tokens is not None
        assert 0 <= reasoning <= prediction.predicted_tokens
    if stats.stop_reason == "toolCalls":
        assert prediction.tool_calls, "the daemon says that it called a tool"
    if prediction.start_ns is not None:
        assert prediction.start_ns <= prediction.end_ns, prediction
    assert bool(prediction.trace_id) == bool(prediction.span_id) == identify


def _sums(metrics: PredictionMetrics, sent: list[PredictionOutput]) -> None:
    """Compare every counter with the sum of what the outputs said."""
    counted: Counter[str] = Counter()
    for row, family in metrics.collect():
        for sample in family.samples:
            if sample.name == row.name and row.kind == "counter":
                counted[row.name] += int(sample.value)
            elif sample.name.endswith("_count"):
                counted[sample.name] += int(sample.value)
    stats = [output.stats for output in sent if output.stats is not None]
    expected = {
        "llmster_request_success_total": len(sent),
        "llmster_prompt_tokens_total": sum(one.prompt_tokens or 0 for one in stats),
        "llmster_generation_tokens_total": sum(one.predicted_tokens or 0 for one in stats),
        "llmster_spec_decode_draft_tokens_total": sum(one.draft_tokens or 0 for one in stats),
        "llmster_time_to_first_token_seconds_count": sum(
            one.time_to_first_token_s is not None for one in stats
        ),
    }
    assert {name: counted[name] for name in expected} == expected
