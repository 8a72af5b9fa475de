"""Run the tool servers of an mcp.json as the daemon's plugins: connect, list their tools, call them, tell their stderr.

Uses MCP's official client; does not depend on models or chats. Imported only when an mcp.json is given.

Documented: where servers are named, and the ids `mcp/NAME`. Assumed: a server is connected to on first use and stays
connected; mcp.json is read anew for each chat; the client speaks the protocol of 2025 and gives a call up after 60 s,
as the official TypeScript one does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

import httpx2
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from llmster_sim.engine.requests import Tool
from llmster_sim.rest.integrations import ServerUnreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AsyncExitStack
    from pathlib import Path

    from mcp.client._transport import TransportStreams

    Say = Callable[[str, str], None]

_CONNECT_S = 30.0
_CALL_S = 60.0


class ToolServer:
    """One server. A connection that is lost is made again by the next use. `say` gets what it writes to stderr."""

    def __init__(self, entry: Mapping[str, Any], *, say: Callable[[str], None]) -> None:
        self.entry = entry
        self._say = say
        self._ready: asyncio.Future[Client] | None = None
        self._over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def tools(self) -> tuple[Tool, ...]:
        """List its tools, all pages. Raises ServerUnreachable."""
        found: list[Tool] = []
        cursor: str | None = None
        try:
            client = await self._connected()
            while True:
                page = await client.list_tools(cursor=cursor)
                found += [Tool(name=tool.name, parameters=tool.input_schema) for tool in page.tools]
                cursor = page.next_cursor
                if cursor is None:
                    return tuple(found)
        except Exception as error:
            self._lose()
            raise ServerUnreachable(str(error) or type(error).__name__) from error

    def call(self, name: str, arguments: dict[str, Any], done: Callable[[str], None]) -> Callable[[], object]:
        """Call a tool; `done` gets what the model is told. The result gives the call up."""
        task = self._keep(self._call(name, arguments, done))
        return task.cancel

    async def close(self) -> None:
        """End what runs and disconnect."""
        self._lose()
        for task in self._tasks:
            if task.get_name() == "call":
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _call(self, name: str, arguments: dict[str, Any], done: Callable[[str], None]) -> None:
        try:
            client = await self._connected()
            result = await client.call_tool(name, arguments, read_timeout_seconds=_CALL_S)
            content = [
                block.model_dump(by_alias=True, mode="json", exclude_none=True) for block in result.content
            ]
        except Exception as error:  # noqa: BLE001 - whatever a tool server does, the chat goes on
            self._lose()
            # Assumed: a call that came to nothing is told to the model like a result.
            content = [{"type": "text", "text": f"Error: {str(error) or type(error).__name__}"}]
        done(json.dumps(content, separators=(",", ":")))

    async def _connected(self) -> Client:
        if self._ready is None:
            self._ready = asyncio.get_running_loop().create_future()
            self._over = asyncio.Event()
            self._keep(self._hold(self._ready, self._over), name="connection")
        return await asyncio.shield(self._ready)

    def _lose(self) -> None:
        self._ready = None
        self._over.set()

    def _keep(self, work: Any, *, name: str = "call") -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _hold(self, ready: asyncio.Future[Client], over: asyncio.Event) -> None:
        """Own one connection: opened and closed by the same task, as the client wants it."""
        try:
            async with contextlib.AsyncExitStack() as stack:
                transport = await self._transport(stack)
                client = Client(transport, mode="legacy", cache=None)
                async with asyncio.timeout(_CONNECT_S):
                    await stack.enter_async_context(client)
                ready.set_result(client)
                await over.wait()
        except Exception as error:  # noqa: BLE001 - a plugin that fails is no failure of the daemon
            if not ready.done():
                ready.set_exception(ServerUnreachable(str(error) or type(error).__name__))
                ready.exception()  # perhaps without a waiting caller

    async def _transport(
        self, stack: AsyncExitStack
    ) -> contextlib.AbstractAsyncContextManager[TransportStreams]:
        entry = self.entry
        if isinstance(entry.get("url"), str):
            http = await stack.enter_async_context(
                httpx2.AsyncClient(
                    headers=entry.get("headers") or {},
                    timeout=httpx2.Timeout(_CONNECT_S, read=None),
                    trust_env=False,
                )
            )
            return streamable_http_client(entry["url"], http_client=http)
        program = StdioServerParameters(
            command=entry["command"], args=entry.get("args") or [], env=entry.get("env")
        )
        return _spoken(program, self._say)


@contextlib.asynccontextmanager
async def _spoken(
    program: StdioServerParameters, say: Callable[[str], None]
) -> AsyncIterator[TransportStreams]:
    """Start a program and speak with it; each line of its stderr is said, as published: `stderr: ...`."""
    loop = asyncio.get_running_loop()
    read, write = os.pipe()
    reader = asyncio.StreamReader()
    pipe, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb")
    )

    async def tell() -> None:
        async for line in reader:
            if line.strip():
                say(f"stderr: {line.decode('utf-8', 'replace').rstrip()}")

    telling = loop.create_task(tell())
    try:
        with os.fdopen(write, "w", encoding="utf-8") as errlog:
            async with stdio_client(program, errlog=errlog) as streams:
                yield streams
        await telling
    finally:
        telling.cancel()
        pipe.close()


class Plugins:
    """The servers of one mcp.json, and those that single requests name. `say` gets a name and a line."""

    def __init__(self, path: Path, *, say: Say) -> None:
        self.path = path
        self._say = say
        self._servers: dict[str, ToolServer] = {}
        self._retired: list[ToolServer] = []

    def names(self) -> tuple[str, ...]:
        """Name what mcp.json has now. Assumed: one that cannot be read has nothing."""
        return tuple(self._entries())

    def installed(self, plugin_id: str) -> ToolServer | None:
        """Find the server with the id `mcp/NAME`; None when mcp.json has none of that name."""
        name = plugin_id.removeprefix("mcp/")
        entry = self._entries().get(name) if plugin_id.startswith("mcp/") else None
        return self._server(plugin_id, name, entry) if entry is not None else None

    def ephemeral(self, *, label: str, url: str, headers: Mapping[str, str]) -> ToolServer:
        """Reach the server that one request describes. Assumed: its stderr, if any, stays with it."""
        return self._server(f"{label} {url}", label, {"url": url, "headers": dict(headers)})

    async def close(self) -> None:
        """Disconnect from all."""
        servers = [*self._servers.values(), *self._retired]
        self._servers.clear()
        self._retired.clear()
        await asyncio.gather(*(server.close() for server in servers))

    def _server(self, key: str, name: str, entry: Mapping[str, Any]) -> ToolServer:
        known = self._servers.get(key)
        if known is not None and known.entry == entry:
            return known
        if known is not None:
            self._retired.append(known)
        server = ToolServer(entry, say=lambda line: self._say(name, line))
        self._servers[key] = server
        return server

    def _entries(self) -> dict[str, Mapping[str, Any]]:
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
            return {
                name: entry
                for name, entry in document["mcpServers"].items()
                if isinstance(entry, dict) and ("url" in entry or "command" in entry)
            }
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return {}
