"""Read the `integrations` of a chat request and decide whether their tools may be used.

Does not depend on MCP: a `ToolBench` reaches real servers; without one, tools are made up.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

from llmster_sim.engine.requests import Tool
from llmster_sim.rest.http import RestError, invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmster_sim.engine.daemon import Settings

# What a made-up server offers when the request does not narrow it down.
_DEFAULT_TOOLS = ("model_search", "read_page")
_PARAMETERS = {"type": "object", "properties": {"query": {"type": "string"}, "limit": {"type": "integer"}}}


class ServerUnreachable(Exception):
    """A tool server cannot be connected to, or does not say which tools it has."""


class Server(Protocol):
    """A tool server that is really there."""

    async def tools(self) -> tuple[Tool, ...]:
        """List its tools. Raises ServerUnreachable."""

    def call(self, name: str, arguments: dict[str, Any], done: Callable[[str], None]) -> Callable[[], object]:
        """Call a tool; `done` gets its output. The result gives the call up."""


class ToolBench(Protocol):
    """Where tool servers are found."""

    def installed(self, plugin_id: str) -> Server | None:
        """Find a server of mcp.json."""

    def ephemeral(self, *, label: str, url: str, headers: Mapping[str, str]) -> Server:
        """Reach a server that a request describes."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Integration:
    """One provider of tools; `info` is what events call `provider_info`. Without a server, results are made up."""

    info: dict[str, Any]
    tools: tuple[Tool, ...]
    server: Server | None = None


async def read_integrations(value: Any, *, settings: Settings, bench: ToolBench | None) -> list[Integration]:
    """Parse, permit and list tools; a refused provider fails the whole request with 403, as published."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise invalid('"integrations" must be an array', code="invalid_type", param="integrations")
    return [await _read(item, settings=settings, bench=bench) for item in value]


async def _read(item: Any, *, settings: Settings, bench: ToolBench | None) -> Integration:
    if isinstance(item, str):
        item = {"type": "plugin", "id": item}
    kind = item.get("type") if isinstance(item, dict) else None
    if kind == "plugin" and isinstance(item.get("id"), str):
        server = _plugin(item["id"], settings=settings, bench=bench)
        info = {"type": "plugin", "plugin_id": item["id"]}
    elif kind == "ephemeral_mcp" and isinstance(item.get("server_label"), str) and item.get("server_url"):
        server = _ephemeral(item, settings=settings, bench=bench)
        info = {"type": "ephemeral_mcp", "server_label": item["server_label"]}
    else:
        raise invalid('Invalid item in "integrations"', code="invalid_union", param="integrations")
    allowed = item.get("allowed_tools")
    if server is None:
        names = _DEFAULT_TOOLS if allowed is None else tuple(allowed)
        return Integration(info=info, tools=tuple(Tool(name=name, parameters=_PARAMETERS) for name in names))
    try:
        tools = await server.tools()
    except ServerUnreachable as error:
        raise _unreachable("plugin" if kind == "plugin" else "mcp", f"Cannot connect: {error}") from error
    kept = tuple(tool for tool in tools if allowed is None or tool.name in allowed)
    return Integration(info=info, tools=kept, server=server)


def _plugin(plugin_id: str, *, settings: Settings, bench: ToolBench | None) -> Server | None:
    if not settings.allow_mcp_json:
        # Published up to the full stop. Assumed: the rest names the setting, whose name is documented.
        message = (
            f"Permission denied to use plugin '{plugin_id}'."
            ' Enable "Allow calling servers from mcp.json" in the server settings.'
        )
        raise RestError(status=403, error={"type": "invalid_request", "message": message})
    if bench is None:
        return None
    server = bench.installed(plugin_id)
    if server is None:  # Assumed: the wording.
        raise _unreachable("plugin", f"Cannot find plugin '{plugin_id}'.")
    return server


def _ephemeral(item: dict[str, Any], *, settings: Settings, bench: ToolBench | None) -> Server | None:
    if not settings.allow_ephemeral_mcp:
        # Assumed: worded like the plugin's refusal.
        message = 'Permission denied to use ephemeral MCP servers. Enable "Allow per-request MCPs".'
        raise RestError(status=403, error={"type": "invalid_request", "message": message})
    if bench is None:
        return None
    return bench.ephemeral(
        label=item["server_label"], url=item["server_url"], headers=item.get("headers") or {}
    )


def _unreachable(kind: str, message: str) -> RestError:
    """Refuse with a documented type. Assumed: its status and words, and that it comes before the chat begins."""
    return RestError(status=500, error={"type": f"{kind}_connection_error", "message": message})
