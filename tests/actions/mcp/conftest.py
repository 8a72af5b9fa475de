"""Starts the real actions API with an MCP gate, on a real port, and lets the official client through it."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import EllipsisType
from typing import Any

import anyio
import httpx
import httpx2
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from actions import app
from actions.app import Parts
from tests.actions.conftest import make_token, settings, value_of

TOOLBOX = Path(__file__).parent / "toolbox.py"


def toolbox(name: str = "toolbox", **limits: Any) -> str:
    """The policy file's lines for a toolbox."""
    more = "\n".join(f"{key} = {value!r}" for key, value in limits.items())
    return f'[servers.{name}]\ncommand = "{sys.executable}"\nargs = ["{TOOLBOX}"]\n{more}\n'


def rule(decision: str, tool: str = "*", server: str = "*", **more: str) -> str:
    """The policy file's lines for a rule; further keys as TOML."""
    extra = "\n".join(f"{key} = {value}" for key, value in more.items())
    return f'[[rules]]\nserver = "{server}"\ntool = "{tool}"\ndecision = "{decision}"\n{extra}\n'


@dataclass(slots=True)
class Gated:
    """A service with a gate, and clients for both of its sides."""

    url: str
    parts: Parts
    admin: httpx.AsyncClient
    token: str
    task: asyncio.Task[None] = field(repr=False)

    @contextlib.asynccontextmanager
    async def client(
        self, server: str = "toolbox", *, token: str | None = None, **options: Any
    ) -> AsyncIterator[Client]:
        """The official client, through the gate."""
        headers = {"Authorization": f"Bearer {token or self.token}"}
        async with httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as http:
            transport = streamable_http_client(
                f"{self.url}/mcp/{server}", http_client=http, max_sse_event_size=None
            )
            with answers_that_come_too_late():
                async with Client(transport, cache=None, **options) as client:
                    yield client

    async def outcomes(self, count: int) -> list[dict[str, Any]]:
        """Wait until so many calls have an outcome on record, and return those rows."""

        async def enough() -> bool:
            return len(await self.audit("outcome")) >= count

        await eventually(enough)
        return await self.audit("outcome")

    async def pending(self, count: int = 1) -> list[dict[str, Any]]:
        """Wait until so many calls wait for approval."""
        found: list[dict[str, Any]] = []

        async def enough() -> bool:
            answer = await self.admin.get("/v1/mcp/approvals", params={"state": "pending"})
            found[:] = answer.json()["approvals"]
            return len(found) >= count

        await eventually(enough)
        return found

    async def audit(self, *kinds: str, action: str = "mcp.call") -> list[dict[str, Any]]:
        """The audit of tool calls, oldest first."""
        entries = (await self.admin.get("/v1/audit", params={"limit": 1000})).json()["entries"]
        return [
            entry
            for entry in reversed(entries)
            if entry["action"] == action and (not kinds or entry["kind"] in kinds)
        ]

    async def metric(self, name: str, **labels: str) -> float | None:
        """The value of a sample of /metrics."""
        return value_of((await self.admin.get("/metrics")).text, name, **labels)


@contextlib.contextmanager
def answers_that_come_too_late() -> Iterator[None]:
    """Overlook that the official client, 2.3, trips over an answer that arrives while it closes."""
    try:
        yield
    except* anyio.ClosedResourceError:
        pass


Start = Callable[..., Awaitable[Gated]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a gate with a policy; stop and start again with the same state by calling it twice."""
    running: list[asyncio.Task[None]] = []
    async with contextlib.AsyncExitStack() as stack:

        async def starting(
            policy: str | EllipsisType | None = "",
            *,
            token: str | None = None,
            scope: str = "read",
            **changes: Any,
        ) -> Gated:
            while running:
                await stop(running.pop())
            state = tmp_path / "state"
            state.mkdir(mode=0o700, exist_ok=True)
            if policy is None:
                (state / "mcp.toml").unlink()
            elif not isinstance(policy, EllipsisType):  # which leaves it as it is
                (state / "mcp.toml").write_text(policy, encoding="utf-8")
            ready: asyncio.Future[tuple[str, Parts]] = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(
                app.serve(settings(state, **changes), ready=lambda url, parts: ready.set_result((url, parts)))
            )
            running.append(task)
            stack.push_async_callback(stop, task)

            def ended(_task: asyncio.Task[None]) -> None:
                if not ready.done():
                    ready.set_exception(RuntimeError("the service ended before it was ready"))

            task.add_done_callback(ended)
            url, parts = await ready
            storage = parts.service.storage
            admin = await make_token(storage, "admin", name="admin")
            caller = token or await make_token(storage, scope, name="llmster")
            http = httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {admin}"}, timeout=30)
            await stack.enter_async_context(http)
            return Gated(url, parts, http, caller, task)

        yield starting


async def eventually(condition: Callable[[], Awaitable[bool]], *, within_s: float = 20) -> None:
    """Wait until something that is seen from outside only is so."""
    async with asyncio.timeout(within_s):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.01)


async def holds(path: Path, text: str) -> None:
    """Wait until a file that a tool server writes begins with a text."""

    def begins() -> bool:
        return path.exists() and path.read_text(encoding="utf-8").startswith(text)

    async def written() -> bool:
        return begins()

    await eventually(written)


async def stop(task: asyncio.Task[None]) -> None:
    """Stop a gate and wait for it."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def text_of(result: types.CallToolResult) -> str:
    """All text of a result."""
    return "\n".join(block.text for block in result.content if isinstance(block, types.TextContent))


def gate_of(result: types.CallToolResult) -> dict[str, Any]:
    """What the gate says about a result."""
    found: dict[str, Any] = (result.meta or {})["io.daemonpulse/gate"]
    return found


RAWBOX = Path(__file__).parent / "rawbox.py"


def rawbox(*behaviours: str, log: Path | None = None, name: str = "rawbox", **limits: Any) -> str:
    """The policy file's lines for a server without an SDK, which does as it is told."""
    more = "\n".join(f"{key} = {value!r}" for key, value in limits.items())
    env = f'env = {{ RAWBOX_LOG = "{log}" }}\n' if log is not None else ""
    return (
        f'[servers.{name}]\ncommand = "{sys.executable}"\nargs = {[str(RAWBOX), *behaviours]}\n{env}{more}\n'
    )


def asked(log: Path, method: str) -> list[dict[str, Any]]:
    """What such a server was asked, by method."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return [request for request in map(json.loads, lines) if request.get("method") == method]
