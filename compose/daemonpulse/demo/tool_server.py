"""The demo's tool server: a few tools over made-up notes, spoken to on stdin and stdout with the official SDK.

Does not depend on the gate and uses no file. Started by the demo's gate as `python -m daemonpulse.demo.tool_server`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import mcp_types as types
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server


def _tool(name: str, description: str, **properties: Mapping[str, Any]) -> types.Tool:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return types.Tool(name=name, description=description, input_schema=schema)


_PATH: Final = {"type": "string", "enum": ["/notes/plan.md", "/notes/todo.md", "/notes/../etc/shadow"]}

TOOLS: Final = (
    _tool("search_notes", "Finds notes that speak of something.", query={"type": "string"}),
    _tool("read_note", "Reads a note.", path=_PATH),
    _tool("write_note", "Writes a note.", path=_PATH, text={"type": "string"}),
    _tool("run_command", "Runs a command in a shell.", command={"type": "string"}),
)

_TAKES_S: Final = {"search_notes": 0.3, "read_note": 0.05}


async def _list_tools(
    _context: ServerRequestContext[Any, Any], _params: types.PaginatedRequestParams | None
) -> types.ListToolsResult:
    return types.ListToolsResult(tools=list(TOOLS))


async def _call_tool(
    _context: ServerRequestContext[Any, Any], params: types.CallToolRequestParams
) -> types.CallToolResult:
    await asyncio.sleep(_TAKES_S.get(params.name, 0.1))
    return types.CallToolResult(
        content=[types.TextContent(text=f"{params.name}: done, as far as a demo does")]
    )


async def main() -> None:
    """Serve until stdin ends."""
    server = Server("notes", on_list_tools=_list_tools, on_call_tool=_call_tool)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    asyncio.run(main())
