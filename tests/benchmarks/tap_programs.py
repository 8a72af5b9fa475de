"""Programs that the tap's benchmark starts: a daemon's stand-in that stamps what it sends, and an ordinary proxy.

Each prints its URL and runs until it is killed. Knows no number.
"""

import asyncio
import json
import re
import sys
import time
from collections.abc import AsyncIterator
from typing import Any, Final

HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
WHOLE: Final = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "bench",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "word " * 50}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 20, "completion_tokens": 50, "total_tokens": 70},
    }
).encode()


_EVENT: Final = (
    b'data: {"id":"chatcmpl-%020d","object":"chat.completion.chunk","created":1,"model":"bench",'
    b'"choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}\n\n'
)
_SIZE: Final = b"%x\r\n" % len(_EVENT % 0)


def piece() -> bytes:
    """Write one token as an event, with the time it was sent: the monotonic clock is the same for all processes."""
    return _SIZE + _EVENT % time.monotonic_ns() + b"\r\n"


async def daemon() -> None:
    """Answer chat completions: whole ones at once, streams of `max_tokens` tokens at `temperature` a second."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                found = re.search(rb"(?i)content-length: *(\d+)", head)
                body = json.loads(await reader.readexactly(int(found[1])) if found else b"{}")
                if not body.get("stream"):
                    writer.write(
                        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                        % (len(WHOLE), WHOLE)
                    )
                    continue
                writer.write(HEAD)
                begun = time.monotonic()
                for number in range(int(body["max_tokens"])):
                    due = begun + number / float(body["temperature"])
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                    writer.write(piece())
                    await writer.drain()
                writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}", flush=True)
    await server.serve_forever()


def proxy(upstream: str, port: int) -> None:
    """Pass requests on as an ordinary proxy of Python does: uvicorn in front, httpx behind, nothing read."""
    import httpx
    import uvicorn

    client = httpx.AsyncClient(base_url=upstream, timeout=None, trust_env=False)  # noqa: S113 - as bare as can be

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = [(k, v) for k, v in scope["headers"] if k not in {b"host", b"connection"}]
        async with client.stream(scope["method"], scope["path"], content=body, headers=headers) as answer:
            kept = [(k, v) for k, v in answer.headers.raw if k.lower() != b"transfer-encoding"]
            await send({"type": "http.response.start", "status": answer.status_code, "headers": kept})
            async for data in _raw(answer):
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    async def _raw(answer: Any) -> AsyncIterator[bytes]:
        async for data in answer.aiter_raw():
            yield data

    print(f"http://127.0.0.1:{port}", flush=True)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", lifespan="off")


if __name__ == "__main__":
    if sys.argv[1] == "daemon":
        asyncio.run(daemon())
    else:
        proxy(sys.argv[2], int(sys.argv[3]))
