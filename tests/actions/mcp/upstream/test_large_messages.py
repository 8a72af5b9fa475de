"""Messages that are too large: a prefix is parsed, whatever the order of keys; the result is small and valid."""

import json
from typing import Any

import httpx2
import pytest
from mcp_types import INVALID_REQUEST, CallToolResult, JSONRPCResponse, jsonrpc_message_adapter
from pydantic_core import from_json

from actions.mcp.upstream import http as web
from actions.mcp.upstream import large_messages
from actions.mcp.upstream.large_messages import limit_of, reduced
from actions.mcp.upstream.lenient import MAX_BLOCKS, repaired
from actions.mcp.upstream.streams import Health

LIMIT = 10_000


def text(chars: int) -> dict[str, Any]:
    return {"type": "text", "text": "é\n" * (chars // 2)}


def ordered(result: dict[str, Any], *, id_first: bool) -> bytes:
    parts: dict[str, Any] = {"jsonrpc": "2.0"}
    parts |= {"id": 7, "result": result} if id_first else {"result": result, "id": 7}
    return json.dumps(parts, ensure_ascii=False).encode()


@pytest.mark.parametrize("id_first", [True, False])
@pytest.mark.parametrize(
    "content",
    [
        [text(100_000)],
        [text(100)] * 5_000,
        [text(10), {"type": "image", "data": "A" * 99_999, "mimeType": "a/b"}],
    ],
)
def test_a_large_result_of_a_tool_is_cut_to_a_valid_one(content: list[Any], id_first: bool) -> None:  # noqa: FBT001
    short = reduced(ordered({"content": content}, id_first=id_first), LIMIT)
    assert short is not None
    assert len(short) <= 2 * LIMIT
    message = jsonrpc_message_adapter.validate_json(short)
    assert isinstance(message, JSONRPCResponse)
    assert message.id == 7
    result = CallToolResult.model_validate(message.result)
    assert result.content
    assert not result.is_error
    assert (
        result.content[0] == CallToolResult.model_validate({"content": content}).content[0]
        or len(content) == 1
    )


@pytest.mark.parametrize("more", [{"isError": True}, {"structuredContent": {"a": 1}}])
def test_a_cut_result_is_an_error_where_it_was_one_or_lost_what_its_schema_promises(
    more: dict[str, Any],
) -> None:
    short = reduced(ordered({"content": [text(100_000)], **more}, id_first=True), LIMIT)
    assert json.loads(short or b"")["result"]["isError"] is True


def test_a_large_list_loses_its_end_and_no_half_of_a_tool_is_listed() -> None:
    tools = [
        {"name": f"t{n}", "description": "d" * 100, "inputSchema": {"type": "object"}} for n in range(1_000)
    ]
    short = reduced(ordered({"tools": tools, "nextCursor": "x"}, id_first=False), LIMIT)
    kept = json.loads(short or b"")["result"]["tools"]
    assert 0 < len(kept) < 1_000
    assert kept == tools[: len(kept)]


@pytest.mark.parametrize("order", [1, -1])
def test_a_result_of_the_latest_protocol_stays_one(order: int) -> None:
    parts = [("resultType", "complete"), ("content", [text(100_000)])][::order]
    short = json.loads(reduced(ordered(dict(parts), id_first=True), LIMIT) or b"")
    assert short["result"]["resultType"] == "complete"


def test_other_large_results_are_errors_and_large_requests_of_a_server_are_dropped() -> None:
    contents = [{"uri": "a://b", "text": "x" * 100_000}]
    short = json.loads(reduced(ordered({"contents": contents}, id_first=True), LIMIT) or b"")
    assert "message has" in short["error"]["message"]
    asked = {"jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage", "params": {"x": "y" * 100_000}}
    assert reduced(json.dumps(asked).encode(), LIMIT) is None
    for nonsense in (b"x" * 100_000, b"[" * 100_000, b'"' + b"x" * 100_000, b"{" + b" " * 100_000 + b"}"):
        assert reduced(nonsense, LIMIT) is None


def test_no_more_than_a_prefix_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []

    def counted(data: Any, **options: Any) -> Any:
        parsed.append(len(data))
        return from_json(data, **options)

    monkeypatch.setattr(large_messages, "from_json", counted)
    reduced(ordered({"content": [text(10)] * 100_000}, id_first=False), LIMIT)
    assert sum(parsed) <= LIMIT + 200


def test_what_may_double_by_escapes_is_parsed_whole() -> None:
    assert limit_of(1_000_000) >= 2_000_000
    assert limit_of(10_000_000) > 20_000_000
    small = ordered({"content": [text(100)]}, id_first=True)
    assert reduced(small, LIMIT) == small


def test_blocks_without_number_are_cut_and_counted() -> None:
    result, dropped = repaired("tools/call", "2025-06-18", {"content": [text(2)] * (MAX_BLOCKS + 5)})
    assert dropped == 5
    assert result["content"][MAX_BLOCKS]["text"].startswith("[5 content blocks beyond")
    assert len(result["content"]) == MAX_BLOCKS + 1


class Chunks(httpx2.AsyncByteStream):
    """A stream of bytes in pieces."""

    def __init__(self, data: bytes, size: int) -> None:
        self._pieces = [data[start : start + size] for start in range(0, len(data), size)]

    async def __aiter__(self) -> Any:
        for piece in self._pieces:
            yield piece


@pytest.mark.parametrize("size", [1_000, 1_000_000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
async def test_events_are_reduced_one_by_one(size: int, end: bytes) -> None:
    large = ordered({"content": [text(100_000)]}, id_first=False)
    note = b'{"jsonrpc":"2.0","method":"notifications/progress"}'
    stream = b"".join(b"event: message" + end + b"data: " + data + end + end for data in (note, large, note))
    events = web._Events(Chunks(stream, size), 7, Health(), LIMIT)
    got = b"".join([piece async for piece in events])
    data = [line[6:] for line in got.splitlines() if line.startswith(b"data: ")]
    assert [data[0], data[2]] == [note, note]
    assert len(data[1]) <= 2 * LIMIT
    assert json.loads(data[1])["id"] == 7


def shortened(result: dict[str, Any], *, limit: int = LIMIT) -> Any:
    """Reduce the answer with this result."""
    return json.loads(reduced(ordered(result, id_first=True), limit) or b"null")


def test_a_message_of_just_the_limit_is_left_and_twice_the_output_fits() -> None:
    message = ordered({"content": [text(100)]}, id_first=True)
    assert reduced(message, len(message)) is message
    assert limit_of(10_000_000) == 20_065_536
    assert limit_of(0) == large_messages.WHOLE_BYTES


def test_the_last_text_is_kept_as_far_as_it_came_and_other_last_blocks_are_left_out() -> None:
    first, long = {"type": "text", "text": "a"}, "x" * 100_000
    texts: list[Any] = [{"type": "text", "text": long}, {"text": long}]
    for last in texts:
        kept = shortened({"content": [first, first, last]})["result"]["content"]
        assert kept[:2] == [first, first]
        assert kept[2].keys() == {"type", "text"}
        assert kept[2]["type"] == "text"
        assert set(kept[2]["text"]) == {"x"}
    for last in (
        {"type": "image", "data": long},
        {"type": "audio", "text": long},
        {"type": "text", "blob": long},
        long,
    ):
        assert shortened({"content": [first, first, last]})["result"] == {
            "content": [first, first],
            "isError": False,
        }


def test_only_what_says_so_is_an_error_or_complete() -> None:
    long = [text(100_000)]
    assert shortened({"isError": True, "content": long})["result"]["isError"] is True
    assert shortened({"isError": False, "content": long})["result"]["isError"] is False
    assert shortened({"content": long})["result"].keys() == {"content", "isError"}
    early = shortened({"content": [text(LIMIT), {"type": "text", "text": '"resultType"'}, text(50_000)]})
    assert "resultType" not in early["result"]
    tools = [{"name": str(number), "inputSchema": {}} for number in range(2_000)]
    assert shortened({"resultType": "complete", "tools": tools})["result"].keys() == {"resultType", "tools"}


def test_a_refused_message_has_its_code_and_its_size() -> None:
    message = ordered({"contents": ["x" * 100_000]}, id_first=True)
    assert json.loads(reduced(message, LIMIT) or b"") == {
        "jsonrpc": "2.0",
        "id": 7,
        "error": {
            "code": INVALID_REQUEST,
            "message": f"the DaemonPulse gate refused this: the message has {len(message)} bytes",
        },
    }
    other = json.dumps({"jsonrpc": "2.0", "id": 1, "result": ["x" * 100_000]}).encode()
    assert json.loads(reduced(other, LIMIT) or b"").keys() == {"jsonrpc", "id", "error"}


def test_the_transport_knows_better_whose_answer_it_is() -> None:
    message = ordered({"content": [text(100_000)]}, id_first=True)
    assert json.loads(reduced(message, LIMIT, request_id="mine") or b"")["id"] == "mine"
    nameless = json.dumps({"jsonrpc": "2.0", "result": {"content": [text(100_000)]}}).encode()
    assert reduced(nameless, LIMIT) is None
    assert json.loads(reduced(nameless, LIMIT, request_id=0) or b"")["id"] == 0
