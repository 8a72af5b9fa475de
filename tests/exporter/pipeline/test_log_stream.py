"""A bug costs one event: the stream goes on, the event is counted where it failed."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from exporter.llmster.events import LogEvent, ServerLog
from exporter.pipeline import log_stream
from exporter.pipeline.log_stream import EventFlow, Tailer
from exporter.pipeline.output import reader
from exporter.pipeline.predictions import Prediction, PredictionBuilder
from tests.exporter.pipeline.engine_lines import LAUNCH, runtime
from tests.exporter.pipeline.predicting import given_input, given_output


class Kept:
    name = "kept"

    def __init__(self) -> None:
        self.predictions: list[Prediction] = []
        self.logs = 0

    def take_prediction(self, prediction: Prediction) -> None:
        self.predictions.append(prediction)

    def take_log(self, _event: object) -> None:
        self.logs += 1


def bug(*_args: Any, **_kwargs: Any) -> Any:
    raise KeyError("a bug")


def flow_to(kept: Kept) -> EventFlow:
    return EventFlow(PredictionBuilder("d"), [kept])


def break_pair(flow: EventFlow, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(flow.builder._pairing, "take", bug)


def break_split(_flow: EventFlow, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reader, "split", bug)


def break_conversation(flow: EventFlow, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(flow.builder, "_turn", bug)


@pytest.mark.parametrize(
    ("stage", "break_it"),
    [("pair", break_pair), ("split", break_split), ("conversation", break_conversation)],
)
def test_a_bug_in_one_step_leaves_the_prediction_counted(
    stage: str, break_it: Callable[[EventFlow, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept()
    flow = flow_to(kept)
    with monkeypatch.context() as patch:
        break_it(flow, patch)
        flow.take(given_input("hi"))
        flow.take(given_output("pong", predicted_tokens=3))
    flow.take(given_input("hi"))
    flow.take(given_output("pong", predicted_tokens=4))
    assert [prediction.predicted_tokens for prediction in kept.predictions] == [3, 4]
    assert {name: count for name, count in flow.errors.counts.items() if count} == {stage: 1}


def events() -> list[LogEvent]:
    return [given_input("hi"), given_output("x"), runtime(LAUNCH), ServerLog(1, "error", "[Plugin(mcp/a)] x")]


@pytest.mark.parametrize(
    ("stage", "part", "name"),
    [
        ("predict", "builder", "add"),
        ("slots", "slots", "add"),
        ("server_log", None, "_count_server_lines"),
    ],
)
def test_a_bug_in_any_part_costs_only_what_it_does(
    stage: str, part: str | None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept()
    flow = flow_to(kept)
    monkeypatch.setattr(getattr(flow, part) if part else flow, name, bug)
    for event in events():
        flow.take(event)
    failed = {name: count for name, count in flow.errors.counts.items() if count}
    assert failed == {stage: 1 if stage == "server_log" else 2}
    assert kept.logs == 2
    assert len(kept.predictions) == (0 if stage == "predict" else 1)


def test_a_bug_in_the_parser_costs_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = flow_to(Kept())
    monkeypatch.setattr(log_stream, "parse_message", bug)
    flow.take_message(b"{}")
    monkeypatch.setattr(log_stream, "parse_ndjson_line", bug)
    assert flow.take_line(b"{}") is False
    assert flow.errors.counts["parse"] == 2


def test_a_failing_sink_costs_itself_the_item() -> None:
    class Broken(Kept):
        name = "broken"
        take_log = take_prediction = bug

    kept = Kept()
    flow = EventFlow(PredictionBuilder("d"), [Broken(), kept])
    for event in events():
        flow.take(event)
    assert (len(kept.predictions), kept.logs) == (1, 2)
    assert flow.counts.sink_failures == {"broken": 3}
    assert flow.errors.counts["sink"] == 3


class _Channel:
    silent_s = 0.0

    def __init__(self, messages: list[bytes]) -> None:
        self._messages = messages

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for message in self._messages:
            yield message


class Stopped(BaseException):
    """Ends the tailer of a test."""


class _Client:
    name = "d"

    def __init__(self) -> None:
        self.opened = 0

    async def connected(self) -> None:
        if self.opened == 2:
            raise Stopped
        self.opened += 1
        if self.opened == 1:
            raise RuntimeError("a bug")

    @asynccontextmanager
    async def log_channel(self) -> AsyncIterator[_Channel]:
        yield _Channel([b"\xff", b'{"type":"log","log":{"timestamp":1,"data":{"type":"new.event"}}}'])


async def test_a_bug_while_the_stream_is_opened_does_not_end_the_tailer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_stream, "REOPEN_AFTER_S", 0.0)
    flow = flow_to(Kept())
    with pytest.raises(Stopped):
        await Tailer(_Client(), flow).run()  # type: ignore[arg-type]
    assert flow.errors.counts["stream"] == 1
    assert flow.counts.events == {"malformed": 1, "new.event": 1}
    assert flow.counts.disconnects == 1
