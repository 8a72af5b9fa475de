"""Lists and completions are within limits of each token, like calls, and take none from these."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from tests.actions.conftest import make_token
from tests.actions.mcp.conftest import Start, asked, eventually, rawbox, rule, start, text_of

__all__ = ["start"]

ALLOW = rule("allow")
TEMPLATE = types.ResourceTemplateReference(uri="file:///{+path}")
LOOKS: dict[str, Callable[[Client], Awaitable[Any]]] = {
    "tools/list": lambda client: client.list_tools(),
    "prompts/list": lambda client: client.list_prompts(),
    "resources/list": lambda client: client.list_resources(),
    "resources/templates/list": lambda client: client.list_resource_templates(),
    "completion/complete": lambda client: client.complete(TEMPLATE, {"name": "path", "value": "s"}),
}


@pytest.mark.parametrize("method", LOOKS)
async def test_lists_and_completions_have_a_limit_per_token_of_their_own(start: Start, method: str) -> None:
    gate = await start(rawbox(calls_per_minute=3) + ALLOW)
    other = await make_token(gate.parts.service.storage, "read", name="other")
    look = LOOKS[method]
    async with gate.client("rawbox") as client, gate.client("rawbox", token=other) as others:
        for _ in range(3):
            await look(client)
        for again in LOOKS.values():
            with pytest.raises(MCPError, match="lists and completions are limited to calls_per_minute, 3"):
                await again(client)
        await look(others)
        called = await client.session.send_request(
            types.CallToolRequest(params=types.CallToolRequestParams(name="twist", arguments={})),
            types.CallToolResult,
        )
        assert text_of(called) == "twisted", "calls have their own"


async def test_lists_that_a_server_does_not_answer_leave_other_tokens_theirs_and_calls_go_on(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("actions.mcp.upstream.limits.LOOK_PLACES", 3)
    log = tmp_path / "log"
    gate = await start(rawbox("silent-on-prompts", log=log) + ALLOW)
    other = await make_token(gate.parts.service.storage, "read", name="other")
    async with gate.client("rawbox") as client, gate.client("rawbox", token=other) as others:
        waiting = [asyncio.create_task(client.list_prompts()) for _ in range(6)]

        async def are_turned_away() -> bool:
            return sum(one.done() for one in waiting) == 4 and len(asked(log, "prompts/list")) == 2

        await eventually(are_turned_away)
        for one in waiting:
            if one.done():
                with pytest.raises(MCPError, match="too many lists and completions at once"):
                    one.result()
        assert (await others.list_resources()).resources
        assert text_of(await client.call_tool("twist", {})) == "twisted"
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
