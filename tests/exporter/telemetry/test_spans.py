"""A prediction as spans: conventions' names, times that fit, the same ids on every replay."""

from importlib import metadata

import msgspec
import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind
from opentelemetry.trace.status import StatusCode

from exporter.llmster.events import PredictionInput, PredictionOutput, PredictionStats
from exporter.pipeline.operations import Operation
from exporter.pipeline.predictions import Prediction, PredictionBuilder
from exporter.telemetry.content import Capture
from exporter.telemetry.spans import Style, build, operation_span, span_count

NS = 1_000_000_000
RESOURCE = Resource({"service.name": "llmster"})
STATS = PredictionStats(
    stop_reason="eosFound",
    tokens_per_second=10.0,
    time_to_first_token_s=0.5,
    prompt_tokens=13,
    predicted_tokens=20,
)


def predictions(*turns: tuple[str, str, PredictionStats | None], keep: bool = False) -> list[Prediction]:
    builder = PredictionBuilder("box", keep_content=keep)
    made = []
    for number, (prompt, output, stats) in enumerate(turns):
        builder.add(PredictionInput(10_000 * number, "qwen", "path", prompt))
        prediction = builder.add(PredictionOutput(10_000 * number + 2500, "qwen", output, stats))
        assert prediction is not None
        made.append(prediction)
    return made


def spans_of(prediction: Prediction, capture: Capture = Capture.OFF) -> list[ReadableSpan]:
    return build(prediction, lambda _daemon: RESOURCE, Style(capture))


def test_a_reasoning_prediction_becomes_prefill_reasoning_and_answer_below_the_request() -> None:
    [made] = predictions(("<|im_start|>user\nhi", "<think>\nabcdefghij\n</think>\n\nabcdefghij", STATS))
    root, *children = spans_of(made)
    assert root.name == "chat qwen"
    assert root.kind is SpanKind.SERVER
    assert [child.name for child in children] == ["prefill", "reasoning", "answer"]
    assert root.start_time is not None
    assert root.end_time is not None
    assert root.end_time - root.start_time == 2_500_000_000
    prefill, reasoning, answer = children
    assert (prefill.start_time, prefill.end_time) == (root.start_time, root.start_time + 500_000_000)
    assert reasoning.start_time == prefill.end_time
    assert answer.end_time == root.end_time
    for child in children:
        assert child.parent == root.context
        assert child.attributes is not None
        assert child.attributes["daemonpulse.timing"] == "estimated"
    assert span_count(made) == 4


def test_only_the_daemons_own_counts_are_usage_and_estimates_say_so() -> None:
    [made] = predictions(("<|im_start|>user\nhi", "<think>\nabcdefghij\n</think>\n\nabcdefghij", STATS))
    attributes = spans_of(made)[0].attributes
    assert attributes is not None
    assert attributes["gen_ai.operation.name"] == "chat"
    assert attributes["gen_ai.provider.name"] == "lmstudio"
    assert attributes["gen_ai.usage.input_tokens"] == 13
    assert attributes["gen_ai.usage.output_tokens"] == 20
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert 0 < int(str(attributes["daemonpulse.reasoning.tokens_estimated"])) < 20
    assert not any("reasoning" in name for name in attributes if name.startswith("gen_ai.usage"))


def test_without_stats_there_is_one_span_and_no_invented_number() -> None:
    [made] = predictions(("<|im_start|>user\nhi", "hello", None))
    [root] = spans_of(made)
    assert root.attributes is not None
    assert not any(name.startswith(("gen_ai.usage", "gen_ai.latency")) for name in root.attributes)


def test_a_failed_prediction_is_an_error_with_its_reason() -> None:
    failed = PredictionStats(stop_reason="failed")
    [made] = predictions(("<|im_start|>user\nhi", "", failed))
    [root] = spans_of(made)
    assert root.status.status_code is StatusCode.ERROR
    assert root.attributes is not None
    assert root.attributes["error.type"] == "failed"


def test_the_next_turn_links_to_the_one_before_and_shares_its_conversation() -> None:
    prompt, output = (
        "<|im_start|>user\nhello there, how are you?<|im_end|>\n<|im_start|>assistant\n",
        "fine, thanks",
    )
    one, two = predictions(
        (prompt, output, STATS), (prompt + output + "<|im_end|>\n<|im_start|>user\nand now?", "well", STATS)
    )
    first, second = spans_of(one)[0], spans_of(two)[0]
    assert first.attributes is not None
    assert second.attributes is not None
    assert second.attributes["gen_ai.conversation.id"] == first.attributes["gen_ai.conversation.id"]
    [link] = second.links
    assert first.context is not None
    assert (link.context.trace_id, link.context.span_id) == (first.context.trace_id, first.context.span_id)
    assert not first.links


@pytest.mark.parametrize(("late_s", "queued_s"), [(3.0, 2.5), (0.59, None), (0.2, None)])
def test_a_wait_that_the_tap_saw_is_a_queue_and_no_prefill(late_s: float, queued_s: float | None) -> None:
    [made] = predictions(("hi", "<think>x</think>y", STATS))
    assert made.start_ns is not None
    made = msgspec.structs.replace(
        made, start_ns=made.start_ns - 3 * NS, first_token_ns=made.start_ns + round((late_s - 3) * NS)
    )
    assert made.start_ns is not None
    _, *children = spans_of(made)
    assert span_count(made) == 1 + len(children)
    if queued_s is None:
        assert children[0].name == "prefill"
        assert children[0].start_time == made.start_ns
        return
    queue, prefill = children[:2]
    assert (queue.name, prefill.name) == ("queue", "prefill")
    assert (queue.start_time, queue.end_time) == (made.start_ns, made.start_ns + round(queued_s * NS))
    assert (prefill.start_time, prefill.end_time) == (queue.end_time, made.first_token_ns)
    ids = {span.context.span_id for span in children if span.context}
    assert len(ids) == len(children)


def test_the_same_events_give_the_same_ids() -> None:
    turn = ("<|im_start|>user\nhi", "<think>x</think>y", STATS)
    once, again = predictions(turn)[0], predictions(turn)[0]
    assert [span.context for span in spans_of(once)] == [span.context for span in spans_of(again)]
    assert len({span.context.span_id for span in spans_of(once) if span.context}) == span_count(once)


def test_content_is_on_spans_only_when_captured() -> None:
    [made] = predictions(("<|im_start|>user\nCANARY", "CANARY too", STATS), keep=True)
    assert "CANARY" not in "".join(str(span.attributes) for span in spans_of(made))
    root = spans_of(made, Capture.FULL)[0]
    assert "CANARY too" in str(root.attributes)


def test_spans_name_their_scope_version_and_the_schema_of_their_names() -> None:
    [made] = predictions(("hi", "42", STATS))
    for span in spans_of(made):
        scope = span.instrumentation_scope
        assert scope is not None
        assert (scope.name, scope.version) == ("daemonpulse", metadata.version("daemonpulse"))
        assert scope.schema_url == "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev"


@pytest.mark.parametrize("kind", [SpanKind.SERVER, SpanKind.CLIENT, SpanKind.INTERNAL])
def test_the_kind_of_a_request_and_the_server_are_those_that_were_set(kind: SpanKind) -> None:
    [made] = predictions(("hi", "42", STATS))
    style = Style(kind=kind, server_of={"box": ("gpu.lan", 1234)}.get)
    root, *children = build(made, lambda _daemon: RESOURCE, style)
    assert root.kind is kind
    assert root.attributes is not None
    assert (root.attributes["server.address"], root.attributes["server.port"]) == ("gpu.lan", 1234)
    assert {child.kind for child in children} == {SpanKind.INTERNAL}


def test_a_tool_call_ends_as_the_conventions_call_it() -> None:
    stats = msgspec.structs.replace(STATS, stop_reason="toolCalls")
    [made] = predictions(("hi", '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>', stats))
    attributes = spans_of(made)[0].attributes
    assert attributes is not None
    assert attributes["gen_ai.response.finish_reasons"] == ("tool_call",)


def test_embeddings_and_decisions_are_operations_of_their_own() -> None:
    operation = Operation(
        daemon="box", name="embeddings", model="nomic", start_ns=5, end_ns=9, trace_id=1, span_id=2,
        parent_span_id=3, input_tokens=7, client="ci",
    )  # fmt: skip
    span = operation_span(operation, lambda _daemon: RESOURCE, Style())
    assert (span.name, span.kind, span.start_time, span.end_time) == (
        "embeddings nomic",
        SpanKind.SERVER,
        5,
        9,
    )
    assert span.attributes == {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "lmstudio",
        "gen_ai.request.model": "nomic",
        "gen_ai.usage.input_tokens": 7,
        "daemonpulse.timing": "exact",
        "daemonpulse.client": "ci",
    }
    assert span.parent is not None
    assert (span.parent.trace_id, span.parent.span_id) == (1, 3)
    failed = msgspec.structs.replace(operation, name="decision", model="", error="404", parent_span_id=None)
    span = operation_span(failed, lambda _daemon: RESOURCE, Style())
    assert (span.name, span.status.status_code, span.parent) == ("decision", StatusCode.ERROR, None)
    assert span.attributes is not None
    assert span.attributes["error.type"] == "404"
