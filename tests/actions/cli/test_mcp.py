"""`daemonpulse actions mcp` against a gate that really serves."""

import asyncio
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from daemonpulse.cli import main
from tests.actions.mcp.conftest import TOOLBOX, Gated, Start, rule, start, text_of, toolbox

__all__ = ["start"]


async def run(gate: Gated, *words: str) -> Result:
    """Run a command in a thread: it waits for the service, which runs here."""
    token = gate.admin.headers["Authorization"].removeprefix("Bearer ")
    environment = {"DAEMONPULSE_ACTIONS_URL": gate.url, "DAEMONPULSE_ACTIONS_TOKEN": token}
    return await asyncio.to_thread(CliRunner().invoke, main, ["actions", "mcp", *words], env=environment)


async def test_a_waiting_call_is_listed_and_approved_from_a_terminal(start: Start) -> None:
    gate = await start(toolbox())
    assert "nothing waits" in (await run(gate, "approvals")).output
    async with gate.client() as client:
        waiting = asyncio.create_task(client.call_tool("echo", {"text": "hello"}))
        (approval,) = await gate.pending()
        listed = (await run(gate, "approvals")).output
        assert f"{approval['id']}  pending  toolbox/echo  for llmster" in listed
        assert '{"text": "hello"}' in listed
        done = await run(gate, "approve", approval["id"])
        assert done.output == f"{approval['id']} approved: toolbox/echo\n"
        assert text_of(await waiting) == "hello"
        again = await run(gate, "deny", approval["id"])
        assert (again.exit_code, "is approved already" in again.output) == (1, True)


async def test_gates_are_set_and_shown_from_a_terminal(start: Start) -> None:
    gate = await start(toolbox())
    assert (await run(gate, "gate", "toolbox", "echo", "deny")).output == "toolbox/echo: deny\n"
    assert "deny   echo " in (await run(gate, "list", "toolbox")).output
    assert (await run(gate, "gate", "toolbox", "echo", "policy")).output == "toolbox/echo: ask, by default\n"
    assert "toolbox              up " in (await run(gate, "list")).output
    missing = await run(gate, "gate", "toolbox", "teleport", "allow")
    assert (missing.exit_code, "teleport is not known" in missing.output) == (2, True)


async def test_a_changed_tool_is_allowed_by_the_digest_of_what_was_seen(start: Start) -> None:
    gate = await start(toolbox() + rule("allow", "change"))
    async with gate.client() as client:
        await client.list_tools()
        await client.call_tool("change", {"description": "Tells more."})
        await client.list_tools()
    refused = await run(gate, "gate", "toolbox", "weather", "allow")
    assert (refused.exit_code, "changed after it was first seen" in refused.output) == (1, True)
    shown = (await run(gate, "list", "toolbox", "weather")).output
    assert '"description":"Tells more."' in shown
    seen = shown.partition("definition_sha256: ")[2].strip()
    assert f"--definition-sha256 {seen}" in refused.output
    done = await run(gate, "gate", "toolbox", "weather", "allow", "--definition-sha256", seen)
    assert done.output == "toolbox/weather: allow\n"
    assert "teleport is not known" in (await run(gate, "list", "toolbox", "teleport")).output


async def test_adopt_shows_changes_and_undoes(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    servers = {"tools": {"command": sys.executable, "args": [str(TOOLBOX)], "env": {"KEY": "hunter22"}}}
    before = json.dumps({"mcpServers": servers}, indent=2)
    path.write_text(before, encoding="utf-8")
    gate = await start(f'mcp_json = "{path}"')
    assert "no tool server yet; put one into mcp.toml" in (await run(gate, "list")).output
    shown = await run(gate, "adopt", "--dry-run")
    assert "would change: tools; nothing was changed" in shown.output
    assert "hunter22" not in shown.output
    assert "changed: tools; backup: " in (await run(gate, "adopt")).output
    assert "nothing to do" in (await run(gate, "adopt")).output
    assert "changed: tools" in (await run(gate, "undo")).output
    assert path.read_text(encoding="utf-8") == before


@pytest.mark.parametrize("command", ["adopt", "undo", "list", "approvals", "approve", "deny", "gate"])
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(main, ["actions", "mcp", command, "--help"])
    assert result.exit_code == 0
    assert "DAEMONPULSE_ACTIONS_URL" in result.output
