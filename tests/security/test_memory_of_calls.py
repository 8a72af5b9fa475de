"""Large calls that wait, and large bodies that are being sent, take no more memory than is for them, of any token."""

import asyncio
import itertools
import json
from typing import Any, Self

import httpx
import pytest

from tests.actions.conftest import make_token
from tests.actions.mcp.conftest import Gated, Start, eventually, gate_of, rule, start, text_of, toolbox
from tests.actions.mcp.upstream.test_spec import INITIALIZE

__all__ = ["start"]

ALLOW = rule("allow")


@pytest.mark.parametrize(
    "large", [{"text": "x" * 100_000}, {"text": "", "list": [[]] * 1_600}], ids=["characters", "values"]
)
async def test_large_calls_that_are_under_way_leave_room_to_other_tokens_and_to_small_ones(
    start: Start, monkeypatch: pytest.MonkeyPatch, large: dict[str, Any]
) -> None:
    monkeypatch.setattr("actions.mcp.call.ROOM_BYTES", 2_000_000)
    gate = await start(toolbox(call_timeout_s=600) + ALLOW)
    other = await make_token(gate.parts.service.storage, "read", name="other")
    async with gate.client() as client, gate.client(token=other) as others:
        calls = [asyncio.create_task(client.call_tool("slow", {"seconds": 300, **large})) for _ in range(8)]

        async def as_many_as_may() -> bool:
            return sum(call.done() for call in calls) == 8 - len(await gate.audit("intent"))

        await eventually(as_many_as_may)
        running = [call for call in calls if not call.done()]
        assert 1 <= len(running) <= 5, "two thirds, and never all"
        for call in calls:
            if call.done():
                assert gate_of(call.result())["outcome"] == "limited"
                assert "large arguments" in text_of(call.result())
        assert text_of(await client.call_tool("echo", {"text": "small"})) == "small"
        assert not (await others.call_tool("echo", {"text": "x" * 100_000})).is_error
        for call in running:
            call.cancel()
        await asyncio.gather(*running, return_exceptions=True)

        async def is_free() -> bool:
            return not (await client.call_tool("echo", {"text": "x" * 100_000})).is_error

        await eventually(is_free)


class Sender:
    """Sends the body of a tool call, and its last byte when told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, last: bytes) -> None:
        self._reader, self._writer, self._last = reader, writer, last

    @classmethod
    async def begin(
        cls, gate: Gated, headers: dict[str, str], body: bytes, connection: str = "close"
    ) -> Self:
        host, port = gate.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        lines = [
            f"{name}: {value}"
            for name, value in {**headers, "connection": connection, "content-length": str(len(body))}.items()
        ]
        head = "\r\n".join(["POST /mcp/toolbox HTTP/1.1", f"host: {host}:{port}", *lines, "", ""])
        writer.write(head.encode() + body[:-1])
        await writer.drain()
        return cls(reader, writer, body[-1:])

    async def status(self, *, is_refused: bool = False) -> int:
        """Read the answer; of a refusal its status, which comes before the body has ended."""
        async with asyncio.timeout(20):
            status = int((await self._reader.readline()).split()[1])
            if not is_refused:
                await self._reader.read()
        self._writer.close()
        return status

    async def end(self) -> int:
        self._writer.write(self._last)
        return await self.status()


async def test_large_bodies_that_are_not_sent_to_their_end_leave_room_to_other_tokens(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actions.mcp.http_server.BODIES_BYTES", 1_000_000)
    gate = await start(toolbox() + ALLOW)
    other = await make_token(gate.parts.service.storage, "read", name="other")
    params = {"name": "echo", "arguments": {"text": "x" * 200_000}}
    ids = itertools.count(2)

    def body(method: str = "tools/call") -> bytes:
        message = {"jsonrpc": "2.0", "id": next(ids), "method": method}
        return json.dumps(message | ({"params": params} if method == "tools/call" else {})).encode()

    async def session(token: str) -> dict[str, str]:
        headers = {
            "accept": "application/json, text/event-stream",
            "content-type": "application/json",
            "authorization": f"Bearer {token}",
        }
        async with httpx.AsyncClient(headers=headers) as http:
            answer = await http.post(f"{gate.url}/mcp/toolbox", json=INITIALIZE)
        return headers | {"mcp-session-id": answer.headers["mcp-session-id"]}

    own, theirs = await session(gate.token), await session(other)
    senders = [await Sender.begin(gate, own, body()) for _ in range(3)]
    beyond = await Sender.begin(gate, own, body(), "keep-alive")
    assert await beyond.status(is_refused=True) == 429
    another = await Sender.begin(gate, theirs, body())
    assert await another.end() == 200
    small = await Sender.begin(gate, own, body("ping"))
    assert await small.end() == 200
    assert [await one.end() for one in senders] == [200] * 3
    again = await Sender.begin(gate, own, body())
    assert await again.end() == 200, "all is given back"
