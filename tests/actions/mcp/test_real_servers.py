"""Tool servers that others wrote, each in its newest version, behind the gate: listed, called, and on record."""

import asyncio
import contextlib
import functools
import http.server
import json
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemonpulse.demo.programs import free_port
from tests.actions.mcp.conftest import Gated, Start, eventually, rule, start, text_of
from tests.actions.mcp.test_official_servers import NODE
from tests.external import MCP_PYTHON

__all__ = ["start"]

PYTHON = MCP_PYTHON / "bin" / "python"
FASTMCP = """
import sys
from fastmcp import FastMCP
server = FastMCP("sums")
@server.tool
def add(a: int, b: int) -> int:
    "Add two numbers."
    return a + b
@server.prompt
def greet(name: str) -> str:
    return f"Say hello to {name}."
@server.resource("sums://zero")
def zero() -> str:
    return "0"
http = {"transport": "http", "host": "127.0.0.1", "port": int(sys.argv[1])} if sys.argv[1:] else {}
server.run(show_banner=False, **http)
"""


def command(name: str, program: Path | str, *args: Path | str, env: str = "") -> str:
    """The policy file's lines for a program."""
    words = json.dumps([str(word) for word in args])  # also a list of TOML
    return f'[servers.{name}]\ncommand = "{program}"\nargs = {words}\nenv = {{ {env} }}\n' + rule("allow")


async def called(gate: Gated, server: str, tool: str, arguments: dict[str, Any]) -> str:
    """List the tools, call one, and see the call on record; returns its text."""
    async with gate.client(server) as client:
        assert tool in {one.name for one in (await client.list_tools()).tools}
        result = await client.call_tool(tool, arguments)
    assert not result.is_error, text_of(result)
    await gate.outcomes(1)
    (intent,) = await gate.audit("intent")
    assert intent["subject"] == f"{server}/{tool}"
    return text_of(result)


@pytest.mark.external("node", "@modelcontextprotocol/server-memory")
async def test_memory(start: Start, tmp_path: Path) -> None:
    kept = tmp_path / "memory.json"
    gate = await start(
        command("memory", "node", NODE / "server-memory/dist/index.js", env=f'MEMORY_FILE_PATH = "{kept}"')
    )
    entity = {"name": "llmster", "entityType": "daemon", "observations": ["serves models"]}
    assert "llmster" in await called(gate, "memory", "create_entities", {"entities": [entity]})
    assert "serves models" in kept.read_text(encoding="utf-8")


@pytest.mark.external("mcp-server-git")
async def test_git(start: Start, tmp_path: Path) -> None:
    made = await asyncio.create_subprocess_exec("git", "init", "-q", "-b", "trunk", tmp_path / "work")
    assert await made.wait() == 0
    (tmp_path / "work" / "notes.txt").write_text("new", encoding="utf-8")
    gate = await start(command("git", PYTHON, "-m", "mcp_server_git", "--repository", tmp_path / "work"))
    status = await called(gate, "git", "git_status", {"repo_path": str(tmp_path / "work")})
    assert "notes.txt" in status


@pytest.mark.external("mcp-server-fetch")
async def test_fetch(start: Start, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<article><p>Hello from a page.</p></article>", encoding="utf-8")
    lenient = ("--ignore-robots-txt", "--allow-private-ips")
    gate = await start(command("fetch", PYTHON, "-m", "mcp_server_fetch", *lenient))
    with pages(tmp_path) as url:
        assert "Hello from a page." in await called(
            gate, "fetch", "fetch", {"url": f"{url}/page.html", "raw": True}
        )


@pytest.mark.external("fastmcp")
@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_fastmcp(start: Start, transport: str) -> None:
    with contextlib.ExitStack() as stack:
        if transport == "stdio":
            policy = command("sums", PYTHON, "-c", FASTMCP)
        else:
            port = free_port()
            stack.enter_context(running(PYTHON, "-c", FASTMCP, str(port)))
            policy = f'[servers.sums]\nurl = "http://127.0.0.1:{port}/mcp"\n' + rule("allow")
        gate = await start(policy)

        async def is_up() -> bool:
            return (await gate.admin.get("/v1/mcp/servers/sums/tools")).status_code == 200

        await eventually(is_up, within_s=60)
        assert await called(gate, "sums", "add", {"a": 2, "b": 3}) == "5"
        async with gate.client("sums") as client:
            assert [one.name for one in (await client.list_prompts()).prompts] == ["greet"]
            assert "Ada" in str((await client.get_prompt("greet", {"name": "Ada"})).messages)
            assert [str(one.uri) for one in (await client.list_resources()).resources] == ["sums://zero"]
            assert "0" in str((await client.read_resource("sums://zero")).contents)


@contextlib.contextmanager
def running(*words: Path | str) -> Iterator[None]:
    """Run a program meanwhile."""
    program = subprocess.Popen(words, stdout=sys.stderr)
    try:
        yield
    finally:
        program.kill()
        program.wait()


@contextlib.contextmanager
def pages(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    handler = functools.partial(Quiet, directory=str(folder))
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
