"""The MCP project's own servers behind the gate, driven by the official client."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.actions.mcp.conftest import Start, gate_of, rule, text_of

NODE = Path(__file__).parent / "node" / "node_modules" / "@modelcontextprotocol"

pytestmark = [
    pytest.mark.external(
        "node", "@modelcontextprotocol/server-everything", "@modelcontextprotocol/server-filesystem"
    )
]


def everything() -> str:
    return f'[servers.everything]\ncommand = "node"\nargs = ["{NODE}/server-everything/dist/index.js", "stdio"]\n'


def filesystem(*roots: Path) -> str:
    args = ", ".join(f'"{word}"' for word in (f"{NODE}/server-filesystem/dist/index.js", *roots))
    return f'[servers.filesystem]\ncommand = "node"\nargs = [{args}]\n'


async def test_everything_there_is_passes_through(start: Start) -> None:
    gate = await start(everything() + rule("allow"))
    async with gate.client("everything") as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert {"echo", "get-sum", "trigger-long-running-operation"} <= tools
        assert "The sum of 2 and 3 is 5" in text_of(await client.call_tool("get-sum", {"a": 2, "b": 3}))
        structured = await client.call_tool("get-structured-content", {"location": "New York"})
        assert structured.structured_content is not None
        image = await client.call_tool("get-tiny-image", {})
        assert any(block.type == "image" for block in image.content)
        prompts = {prompt.name for prompt in (await client.list_prompts()).prompts}
        assert "simple-prompt" in prompts
        assert (await client.get_prompt("simple-prompt")).messages
        resources = (await client.list_resources()).resources
        assert (await client.read_resource(resources[0].uri)).contents
        assert (await client.list_resource_templates()).resource_templates
    subjects = {row["subject"] for row in await gate.audit("intent")}
    assert "everything/simple-prompt" in subjects
    assert f"everything/{resources[0].uri}" in subjects


async def test_progress_passes_through(start: Start) -> None:
    gate = await start(everything() + rule("allow"))
    heard: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        assert (total, message) == (3, None)
        heard.append(progress)

    async with gate.client("everything") as client:
        await client.call_tool(
            "trigger-long-running-operation", {"duration": 0.3, "steps": 3}, progress_callback=on_progress
        )
    assert heard == sorted(heard)
    assert len(heard) >= 2


async def test_allow_deny_and_ask_on_one_server(start: Start) -> None:
    policy = rule("allow", "echo") + rule("deny", "get-env", name='"no environment"')
    gate = await start(everything() + policy)
    async with gate.client("everything") as client:
        assert "Echo: hi" in text_of(await client.call_tool("echo", {"message": "hi"}))
        assert "get-env" not in {tool.name for tool in (await client.list_tools()).tools}
        refused = await client.call_tool("get-env", {})
        assert refused.is_error
        assert gate_of(refused)["rule"] == "no environment"
        waiting = asyncio.create_task(client.call_tool("get-sum", {"a": 1, "b": 1}))
        (approval,) = await gate.pending()
        await gate.admin.post(f"/v1/mcp/approvals/{approval['id']}/approve")
        assert "is 2" in text_of(await waiting)


async def test_denied_prompts_and_resources_are_hidden_and_refused(start: Start) -> None:
    rules = '[[rules]]\nprompt = "args-*"\ndecision = "deny"\n[[rules]]\nresource = "demo://*"\ndecision = "deny"\n'
    gate = await start(everything() + rules)
    async with gate.client("everything") as client:
        assert "args-prompt" not in {prompt.name for prompt in (await client.list_prompts()).prompts}
        with pytest.raises(Exception, match="refused"):
            await client.get_prompt("args-prompt", {"city": "Ghent"})
        assert (await client.list_resources()).resources == []
        with pytest.raises(Exception, match="refused"):
            await client.read_resource("demo://resource/static/document/features.md")


async def test_files_inside_the_root_are_read_and_no_path_leads_out(start: Start, tmp_path: Path) -> None:
    # The server itself may read more than the rule: it is the gate that is tested here.
    root = tmp_path / "open" / "project"
    root.mkdir(parents=True)
    (root / "notes.txt").write_text("inside", encoding="utf-8")
    (tmp_path / "open" / "secret.txt").write_text("outside", encoding="utf-8")
    (root / "link.txt").symlink_to(tmp_path / "open" / "secret.txt")
    paths = f'{{ arguments = ["path"], roots = ["{root}"] }}'
    policy = rule("allow", "read_text_file", name='"project only"', paths=paths) + rule("deny", "write_*")
    gate = await start(filesystem(tmp_path / "open") + policy)
    async with gate.client("filesystem") as client:
        assert (
            text_of(await client.call_tool("read_text_file", {"path": str(root / "notes.txt")})) == "inside"
        )
        escapes = [
            f"{root}/../secret.txt", f"{root}/link.txt", f"{tmp_path}/open/secret.txt", "../secret.txt",
            f" {tmp_path}/open/secret.txt", f"'{tmp_path}/open/secret.txt'", f"{root}/..'/../secret.txt", "~",
        ]  # fmt: skip
        for path in escapes:
            result = await client.call_tool("read_text_file", {"path": path})
            assert result.is_error, path
            assert text_of(result) != "outside"
            assert gate_of(result)["rule"] == "project only", text_of(result)
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert "write_file" not in names
        assert (await client.call_tool("write_file", {"path": f"{root}/x", "content": "x"})).is_error
    assert not (root / "x").exists()
    denied = await gate.audit("denied")
    assert len(denied) == len(escapes) + 1
    assert "secret.txt" not in str([row["detail"] for row in denied])


async def test_a_server_killed_in_mid_call_is_said_to_be_and_comes_back(start: Start) -> None:
    gate = await start(everything() + rule("allow"))
    async with gate.client("everything") as client:
        await client.call_tool("echo", {"message": "x"})
        began = asyncio.Event()

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            del progress, total, message
            began.set()

        waiting = asyncio.create_task(
            client.call_tool(
                "trigger-long-running-operation",
                {"duration": 60, "steps": 600},
                progress_callback=on_progress,
            )
        )
        await asyncio.wait_for(began.wait(), 20)
        endpoint = gate.parts.mcp.pool.endpoint("everything")
        assert endpoint is not None
        pid = endpoint.proxy.upstream.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        result = await waiting
        assert result.is_error
        assert "it was killed by signal 9" in text_of(result)
        assert "Echo: y" in text_of(await client.call_tool("echo", {"message": "y"}))


async def test_100_calls_at_once(start: Start) -> None:
    gate = await start(everything() + rule("allow"))
    async with gate.client("everything") as client:
        results = await asyncio.gather(*(client.call_tool("echo", {"message": str(n)}) for n in range(100)))
    assert [text_of(result) for result in results] == [f"Echo: {n}" for n in range(100)]


async def test_a_10_mb_file_is_cut(start: Start, tmp_path: Path) -> None:
    (tmp_path / "big.txt").write_text("x" * 10_000_000, encoding="utf-8")
    gate = await start(filesystem(tmp_path) + rule("allow"))
    async with gate.client("filesystem") as client:
        result = await client.call_tool("read_text_file", {"path": str(tmp_path / "big.txt")})
    text = text_of(result)
    assert len(text) < 1_000_200
    assert "Cut by the DaemonPulse gate" in text
