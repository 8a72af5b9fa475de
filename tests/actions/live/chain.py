"""The whole way of the live view in one process: a daemon, a tap, an exporter and the actions API, each on a port."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from exporter.shared.live_token import LiveToken
from tests.actions.conftest import Forge, forges
from tests.exporter.tap.scripted import END, HEAD, Upstream, chunk, event, upstream
from tests.system.conftest import RunningExporter, daemon, exporters
from tests.system.running_tap import serving_tap

TOKEN = LiveToken("live-token-canary-" + "x" * 40)
CHAT = "/v1/chat/completions"
PATIENCE_S = 20.0


def delta(**part: str) -> bytes:
    """One event of an OpenAI stream."""
    return chunk(event({"model": "m", "choices": [{"delta": part}]}))


@dataclass
class Gate:
    """A point of a scripted answer where the daemon waits."""

    event: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self) -> None:
        await self.event.wait()

    def open(self) -> None:
        """Let the daemon go on."""
        self.event.set()


@dataclass
class Chain:
    """Everything, with what tests ask of it."""

    daemon: Upstream
    tap_url: str
    reports_url: str
    exporter: RunningExporter
    forge: Forge
    clients: httpx.AsyncClient
    text_token: str = ""

    def ask(self, path: str = CHAT) -> asyncio.Task[httpx.Response]:
        """Send a request through the tap."""
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "PROMPT-canary"}]}
        headers = {"user-agent": "curl/8"}
        return asyncio.create_task(self.clients.post(self.tap_url + path, json=body, headers=headers))

    async def in_flight(self, holds: Callable[[list[dict[str, Any]]], object]) -> list[dict[str, Any]]:
        """Wait until requests in flight are as said, as the exporter tells."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                rows = (await self.exporter.get("/live")).json()["in_flight"]
                if holds(rows):
                    return list(rows)
                await asyncio.sleep(0.02)

    async def request(self) -> str:
        """Wait for a request that writes; return its id."""
        (row,) = await self.in_flight(lambda rows: len(rows) == 1 and rows[0].get("output_tokens"))
        return str(row["request"])

    def look(self, request: str, *, token: str | None = None, seconds: int = 30, **headers: str) -> Any:
        """Open the text of a request as the plugin does."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.forge.http.stream(
            "POST",
            "/v1/live/text",
            params={"daemon": "box", "request": request, "seconds": seconds},
            headers={"Authorization": f"Bearer {token or self.text_token}", **named},
        )


@asynccontextmanager
async def chain(
    tmp_path: Path,
    *answers: Sequence[bytes | Callable[[], Any]],
    token: LiveToken | None = TOKEN,
    scope: str = "read",
) -> AsyncIterator[Chain]:
    """Start all of it before a scripted daemon. `token=None` is capture=off."""
    async with contextlib.AsyncExitStack() as stack:
        scripted = await stack.enter_async_context(upstream(*answers))
        tap_url, reports_url = await stack.enter_async_context(serving_tap(scripted.port, live_token=token))
        start = await stack.enter_async_context(exporters())
        watched = replace(daemon("box", "http://127.0.0.1:1"), tap_url=reports_url)
        exporter = await start(watched, capture="full" if token else "off", live_token=token)
        starts = await stack.enter_async_context(forges(tmp_path))
        forge = await starts(
            None, url="http://127.0.0.1:1", scope=scope, exporter_url=exporter.url, live_token=token
        )
        clients = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=60))
        made = Chain(scripted, tap_url, reports_url, exporter, forge, clients)
        made.text_token = await forge.token("text", name="think")
        yield made


async def events(answer: httpx.Response) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Read server-sent events; comments are left out."""
    block: list[str] = []
    async for line in answer.aiter_lines():
        if line:
            block.append(line)
            continue
        fields = dict(one.split(": ", 1) for one in block if not one.startswith(":"))
        block.clear()
        if fields:
            yield fields["event"], json.loads(fields["data"])


__all__ = ["CHAT", "END", "HEAD", "TOKEN", "Chain", "Gate", "chain", "delta", "events"]
