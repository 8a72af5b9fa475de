import json
from typing import Any

import pytest

from llmster_sim.errors import DaemonError
from llmster_sim.wire.envelopes import Call, Channel, Namespace, Port, Rpc, Stream
from llmster_sim.wire.schema import integer, nothing, record, string


class _Plain:
    """Answers everything as it is."""

    def rpc(self, *, call: Call, answer: Any) -> None:
        assert call.name.startswith("llm.")
        answer()

    def channel(self, *, channel: Channel, begin: Any) -> None:
        assert channel.name.startswith("llm.")
        begin()


class _Bench:
    """A port with a few endpoints, and what it sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.counted: list[tuple[str, str]] = []
        self.channels: list[Channel] = []
        self.heard: list[dict[str, Any]] = []
        self.calls: list[Call] = []
        self.port = Port(
            namespace=Namespace(
                name="llm",
                rpcs={
                    "list": Rpc(handle=lambda call: call.resolve([1]), check=nothing("undefined")),
                    "void": Rpc(handle=lambda call: call.resolve(), check=record({"identifier": string})),
                    "fail": Rpc(
                        handle=lambda call: call.fail(DaemonError("No", cause="why", display={"code": "x"}))
                    ),
                    "later": Rpc(handle=self.calls.append),
                    "wait": Rpc(handle=self.calls.append, check=integer()),
                },
                streams={"watch": Stream(handle=self._open, check=nothing("void"), messages=("stop",))},
            ),
            send_text=lambda text: self.sent.append(json.loads(text)),
            hang_up=lambda: None,
            interceptor=_Plain(),
            count=lambda namespace, endpoint: self.counted.append((namespace, endpoint)),
        )

    def _open(self, channel: Channel) -> None:
        self.channels.append(channel)
        channel.on_message = self.heard.append

    def receive(self, frame: Any) -> list[dict[str, Any]]:
        before = len(self.sent)
        self.port.receive(frame if isinstance(frame, str) else json.dumps(frame))
        return self.sent[before:]


def _call(endpoint: str, call_id: int = 7, **rest: Any) -> dict[str, Any]:
    return {"type": "rpcCall", "endpoint": endpoint, "callId": call_id, **rest}


def test_call_is_answered_under_its_own_id() -> None:
    assert _Bench().receive(_call("list")) == [{"type": "rpcResult", "callId": 7, "result": [1]}]


def test_void_result_has_no_result_key() -> None:
    answer = _Bench().receive(_call("void", parameter={"identifier": "x", "unknown": 1}))
    assert answer == [{"type": "rpcResult", "callId": 7}]


def test_answers_may_come_out_of_order() -> None:
    bench = _Bench()
    bench.receive(_call("later", 1))
    bench.receive(_call("later", 2))
    for call in reversed(bench.calls):
        call.resolve(call.call_id)
    assert [frame["callId"] for frame in bench.sent] == [2, 1]


def test_error_carries_title_cause_display_data_and_a_stack() -> None:
    (answer,) = _Bench().receive(_call("fail"))
    assert answer["type"] == "rpcError"
    stack = answer["error"].pop("stack")
    assert stack.startswith("Error: No\n    at ")
    assert answer["error"] == {"title": "No", "cause": "why", "displayData": {"code": "x"}, "rootTitle": "No"}


@pytest.mark.parametrize(
    ("frame", "kind", "warning"),
    [
        (
            _call("list", parameter=None),
            "rpcParameterTypeError",
            (
                "Received invalid parameter for rpcCall, endpointName = list, parameter = null."
                " Zod error:\n\n- parameter: Expected undefined, received null"
            ),
        ),
        (
            _call("noSuchEndpoint"),
            "rpcEndpointUnknown",
            "Received rpcCall for unknown endpoint, endpoint = noSuchEndpoint",
        ),
        (
            _call("void", parameter={}),
            "rpcParameterTypeError",
            (
                "Received invalid parameter for rpcCall, endpointName = void, parameter = {}."
                " Zod error:\n\n- parameter.identifier: Required"
            ),
        ),
        (
            {"type": "channelSend", "channelId": 99, "message": {"type": "cancel"}},
            "channelUnknown",
            "Received channelSend for unknown channel, channelId = 99",
        ),
        (
            {"type": "channelCreate", "endpoint": "nope", "channelId": 1},
            "channelEndpointUnknown",
            "Received channelCreate for unknown endpoint, endpoint = nope",
        ),
    ],
)
def test_client_mistake_gets_a_warning_and_no_answer(frame: dict[str, Any], kind: str, warning: str) -> None:
    assert _Bench().receive(frame) == [{"type": "communicationWarning", "warning": warning, "kind": kind}]


@pytest.mark.parametrize(
    "frame",
    [
        "{not json",
        "[]",
        '{"type":"surprise"}',
        '{"type":"rpcCall","endpoint":"list","callId":"a"}',
        '{"type":"rpcCall","endpoint":"list","callId":1.5}',
        '{"type":"rpcCall","endpoint":"list","callId":NaN}',
        '{"type":"rpcCall","endpoint":"list","callId":1e999}',
    ],
)
def test_what_is_no_envelope_is_ignored_without_a_word(frame: str) -> None:
    assert _Bench().receive(frame) == []


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999", "0.5"])
def test_what_is_no_whole_number_is_a_mistake_like_any_other(number: str) -> None:
    (warning,) = _Bench().receive(f'{{"type":"rpcCall","endpoint":"wait","callId":1,"parameter":{number}}}')
    assert warning["warning"].endswith("- parameter: Expected integer, received float")


def test_no_more_than_five_warnings_are_sent_on_a_connection() -> None:
    bench = _Bench()
    for _ in range(9):
        bench.receive(_call("noSuchEndpoint"))
    assert len(bench.sent) == 5


def test_keep_alive_is_acknowledged() -> None:
    assert _Bench().receive({"type": "keepAlive"}) == [{"type": "keepAliveAck"}]


def test_channel_speaks_until_it_is_closed() -> None:
    bench = _Bench()
    bench.receive({"type": "channelCreate", "endpoint": "watch", "channelId": 3})
    (channel,) = bench.channels
    channel.send({"n": 1})
    channel.close()
    channel.send({"n": 2})
    channel.close()
    assert bench.sent == [
        {"type": "channelSend", "channelId": 3, "message": {"n": 1}},
        {"type": "channelClose", "channelId": 3},
    ]


def test_calls_and_channels_have_ids_of_their_own() -> None:
    bench = _Bench()
    bench.receive({"type": "channelCreate", "endpoint": "watch", "channelId": 7})
    assert bench.receive(_call("list", 7)) == [{"type": "rpcResult", "callId": 7, "result": [1]}]


def test_channel_id_in_use_cannot_be_opened_again() -> None:
    bench = _Bench()
    bench.receive({"type": "channelCreate", "endpoint": "watch", "channelId": 3})
    (warning,) = bench.receive({"type": "channelCreate", "endpoint": "watch", "channelId": 3})
    assert warning["kind"] == "channelAlreadyOpen"


def test_channel_hears_only_messages_its_schema_knows() -> None:
    bench = _Bench()
    bench.receive({"type": "channelCreate", "endpoint": "watch", "channelId": 3})
    (warning,) = bench.receive({"type": "channelSend", "channelId": 3, "message": {"type": "cancel"}})
    bench.receive({"type": "channelSend", "channelId": 3, "message": {"type": "stop"}})
    assert warning["kind"] == "channelMessageTypeError"
    assert bench.heard == [{"type": "stop"}]


def test_message_that_asks_for_it_is_acknowledged() -> None:
    bench = _Bench()
    bench.receive({"type": "channelCreate", "endpoint": "watch", "channelId": 3})
    message = {"type": "channelSend", "channelId": 3, "message": {"type": "stop"}, "ackId": 5}
    assert bench.receive(message) == [{"type": "channelAck", "channelId": 3, "ackId": 5}]


def test_lost_socket_is_told_to_every_open_channel() -> None:
    bench, gone = _Bench(), []
    for number in (1, 2):
        bench.receive({"type": "channelCreate", "endpoint": "watch", "channelId": number})
        bench.channels[-1].on_gone = lambda number=number: gone.append(number)  # type: ignore[misc]
    bench.port.gone()
    assert gone == [1, 2]


def test_every_call_and_channel_is_counted_even_when_refused() -> None:
    bench = _Bench()
    bench.receive(_call("list", parameter=None))
    bench.receive({"type": "channelCreate", "endpoint": "watch", "channelId": 1})
    assert bench.counted == [("llm", "list"), ("llm", "watch")]
