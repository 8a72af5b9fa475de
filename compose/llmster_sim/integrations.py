"""Read the `integrations` of a chat request and decide whether their tools may be used.

Knows settings and shapes; it calls no MCP server, tool results are made up.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from llmster_sim.asks import Tool
from llmster_sim.http import RestError, invalid

if TYPE_CHECKING:
    from llmster_sim.daemon import Settings

# What a made-up server offers when the request does not narrow it down.
_DEFAULT_TOOLS = ("model_search", "read_page")
_PARAMETERS = {"type": "object", "properties": {"query": {"type": "string"}, "limit": {"type": "integer"}}}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Integration:
    """One provider of tools; `info` is what events call `provider_info`."""

    info: dict[str, Any]
    tools: tuple[Tool, ...]


def read_integrations(value: Any, *, settings: Settings) -> list[Integration]:
    """Parse and permit; a refused provider fails the whole request with 403, as published."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise invalid('"integrations" must be an array', code="invalid_type", param="integrations")
    return [_read(item, settings=settings) for item in value]


def _read(item: Any, *, settings: Settings) -> Integration:
    if isinstance(item, str):
        item = {"type": "plugin", "id": item}
    kind = item.get("type") if isinstance(item, dict) else None
    if kind == "plugin" and isinstance(item.get("id"), str):
        if not settings.allow_mcp_json:
            # Published up to the full stop. Assumed: the rest names the setting, whose name is documented.
            message = (
                f"Permission denied to use plugin '{item['id']}'."
                ' Enable "Allow calling servers from mcp.json" in the server settings.'
            )
            raise RestError(status=403, error={"type": "invalid_request", "message": message})
        info = {"type": "plugin", "plugin_id": item["id"]}
    elif kind == "ephemeral_mcp" and isinstance(item.get("server_label"), str) and item.get("server_url"):
        if not settings.allow_ephemeral_mcp:
            # Assumed: worded like the plugin's refusal.
            message = 'Permission denied to use ephemeral MCP servers. Enable "Allow per-request MCPs".'
            raise RestError(status=403, error={"type": "invalid_request", "message": message})
        info = {"type": "ephemeral_mcp", "server_label": item["server_label"]}
    else:
        raise invalid('Invalid item in "integrations"', code="invalid_union", param="integrations")
    allowed = item.get("allowed_tools")
    names = _DEFAULT_TOOLS if allowed is None else tuple(allowed)
    return Integration(info=info, tools=tuple(Tool(name=name, parameters=_PARAMETERS) for name in names))
