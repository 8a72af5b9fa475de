"""A tool server that misbehaves on demand, made with the official SDK; run as a program, it speaks on stdin and stdout.

Knows no gate.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
from mcp.server import Server, ServerRequestContext
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.stdio import stdio_server

ANY = {"type": "object"}
STATE = {"description": "Tells the weather.", "double": False}


def _tools() -> list[types.Tool]:
    names = (
        "echo", "add", "meta", "slow", "big", "die", "env", "change", "garbage", "huge_line", "fails", "structured"
    )  # fmt: skip
    found = [types.Tool(name=name, description=f"Does {name}.", input_schema=ANY) for name in names]
    found[-1] = found[-1].model_copy(
        update={"output_schema": {"type": "object", "properties": {"text": {"type": "string"}}}}
    )
    weather = types.Tool(name="weather", description=str(STATE["description"]), input_schema=ANY)
    return [*found, weather, *([weather] if STATE["double"] else [])]


async def list_tools(
    _context: ServerRequestContext[Any, Any], _params: types.PaginatedRequestParams | None
) -> types.ListToolsResult:
    """List them."""
    return types.ListToolsResult(tools=_tools())


def _text(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)])


async def _slow(context: ServerRequestContext[Any, Any], given: dict[str, Any]) -> types.CallToolResult:
    marker = Path(given["marker"]) if "marker" in given else None
    if marker is not None:
        marker.write_text(f"began {os.getpid()}", encoding="utf-8")
    try:
        for step in range(3):
            await context.session.report_progress(step + 1, 3, f"step {step + 1}")
        await asyncio.sleep(float(given.get("seconds", 0)))
    except asyncio.CancelledError:
        if marker is not None:
            marker.write_text("cancelled", encoding="utf-8")
        raise
    return _text("slow is done")


async def call_tool(  # noqa: C901, PLR0911, PLR0912 - one case per tool
    context: ServerRequestContext[Any, Any], params: types.CallToolRequestParams
) -> types.CallToolResult:
    """Do what the name says."""
    given = params.arguments or {}
    match params.name:
        case "echo":
            return _text(str(given.get("text", "")))
        case "add":
            return _text(str(given["a"] + given["b"]))
        case "meta":
            return _text(json.dumps(dict(context.meta or {}), default=str))
        case "slow":
            return await _slow(context, given)
        case "big":
            return _text("x" * int(given["bytes"]))
        case "structured":
            text = "x" * int(given["bytes"])
            return types.CallToolResult(content=[], structured_content={"text": text})
        case "env":
            return _text(json.dumps(dict(os.environ)))
        case "fails":
            return types.CallToolResult(content=[types.TextContent(text="no")], is_error=True)
        case "die":
            os._exit(3)
        case "garbage":
            print(
                "this is no JSON",
                '{"jsonrpc": "2.0", "id": 999999, "result": {}}',
                "[]",
                sep="\n",
                flush=True,
            )
            return _text("sorry")
        case "huge_line":
            print("y" * int(given["bytes"]), flush=True)
            return _text("sorry")
        case "change":
            STATE["description"] = given.get("description", STATE["description"])
            STATE["double"] = bool(given.get("double"))
            await context.session.send_tool_list_changed()
            return _text("changed")
        case "weather":
            return _text("sunny")
        case _:
            raise ValueError(params.name)


async def list_prompts(
    _context: ServerRequestContext[Any, Any], _params: types.PaginatedRequestParams | None
) -> types.ListPromptsResult:
    """List one prompt."""
    return types.ListPromptsResult(prompts=[types.Prompt(name="news")])


async def complete(
    _context: ServerRequestContext[Any, Any], params: types.CompleteRequestParams
) -> types.CompleteResult:
    """Complete whatever is begun."""
    return types.CompleteResult(completion=types.Completion(values=[f"{params.argument.value}..."]))


async def main() -> None:
    """Serve until stdin ends."""
    print("toolbox running on stdio", file=sys.stderr)
    server = Server(
        "toolbox",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_prompts=list_prompts,
        on_completion=complete,
    )
    wire = anyio.wrap_file(sys.stdout)  # given, it stays ours, to write what is no message
    async with stdio_server(stdout=wire) as (read, write):
        await server.run(
            read, write, server.create_initialization_options(NotificationOptions(tools_changed=True))
        )


if __name__ == "__main__":
    asyncio.run(main())
