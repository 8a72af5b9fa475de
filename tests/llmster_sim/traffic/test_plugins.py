"""Tool servers of an mcp.json that the simulated daemon really runs and calls, as its plugins."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from llmster_sim.cli import main
from llmster_sim.engine.daemon import Settings
from llmster_sim.server import SimConfig, Simulator
from tests.actions.mcp.upstream.test_spec import served_toolbox

QWEN = "qwen/qwen3-8b"
PROGRAM = Path(__file__).parents[2] / "actions" / "mcp" / "toolbox.py"
TOOLBOX = {"command": sys.executable, "args": [str(PROGRAM)]}


def write(folder: Path, **servers: Any) -> Path:
    path = folder / "mcp.json"
    path.write_text(json.dumps({"mcpServers": servers}), encoding="utf-8")
    return path


def simulated(path: Path) -> Simulator:
    return Simulator(
        SimConfig(scenario="idle", speed=20, mcp_json=path, settings=Settings(allow_mcp_json=True))
    )


async def ask(sim: Simulator, text: str, *integrations: Any) -> httpx.Response:
    body = {"model": QWEN, "input": text, "integrations": list(integrations), "store": False}
    async with httpx.AsyncClient(base_url=sim.url, timeout=60, trust_env=False) as http:
        return await http.post("/api/v1/chat", json=body)


def calls(answer: httpx.Response) -> Iterator[tuple[str, str]]:
    """Each tool that was called, and the text that came back."""
    assert answer.status_code == 200, answer.text
    for item in answer.json()["output"]:
        if item["type"] == "tool_call":
            yield item["tool"], json.loads(item["output"])[0]["text"]


async def test_a_plugins_tools_are_offered_and_called_and_its_stderr_is_logged_as_published(
    tmp_path: Path,
) -> None:
    async with simulated(write(tmp_path, toolbox=TOOLBOX)) as sim:
        lines: list[str] = []
        sim.daemon.watch(lambda event: lines.append(str(event["data"].get("content"))))
        answer = await ask(sim, 'call add {"a": 2, "b": 3}', "mcp/toolbox")
        assert list(calls(answer)) == [("add", "5")]
        only = {"type": "plugin", "id": "mcp/toolbox", "allowed_tools": ["weather"]}
        assert list(calls(await ask(sim, "how is the weather?", only))) == [("weather", "sunny")]
    assert any(
        line.endswith("[ERROR][Plugin(mcp/toolbox)] stderr: toolbox running on stdio") for line in lines
    )


async def test_a_server_that_is_not_there_fails_the_request_with_the_documented_type(tmp_path: Path) -> None:
    missing = {"command": "/does/not/exist"}
    nowhere = {"type": "ephemeral_mcp", "server_label": "x", "server_url": "http://127.0.0.1:9/mcp"}
    async with simulated(write(tmp_path, missing=missing)) as sim:
        for integration, kind in (
            ("mcp/unheard-of", "plugin_connection_error"),
            ("mcp/missing", "plugin_connection_error"),
            (nowhere, "mcp_connection_error"),
        ):
            answer = await ask(sim, "hi", integration)
            assert (answer.status_code, answer.json()["error"]["type"]) == (500, kind)
        assert sim.daemon.totals.predictions == 0


async def test_a_server_that_a_request_describes_is_called(tmp_path: Path) -> None:
    async with served_toolbox() as url, simulated(write(tmp_path)) as sim:
        described = {"type": "ephemeral_mcp", "server_label": "box", "server_url": url}
        assert list(calls(await ask(sim, 'call echo {"text": "hello"}', described))) == [("echo", "hello")]


async def test_a_program_that_dies_is_told_to_the_model_and_started_again(tmp_path: Path) -> None:
    async with simulated(write(tmp_path, toolbox=TOOLBOX)) as sim:
        ((_, text),) = calls(await ask(sim, "call die {}", "mcp/toolbox"))
        assert text.startswith("Error: ")
        answer = await ask(sim, 'call echo {"text": "back"}', "mcp/toolbox")
        assert list(calls(answer)) == [("echo", "back")]


async def test_a_changed_mcp_json_counts_from_the_next_chat_on(tmp_path: Path) -> None:
    async with simulated(write(tmp_path, toolbox=TOOLBOX)) as sim:
        show = "call env {}"
        ((_, before),) = calls(await ask(sim, show, "mcp/toolbox"))
        write(tmp_path, toolbox={**TOOLBOX, "env": {"COLOUR": "green"}})
        ((_, after),) = calls(await ask(sim, show, "mcp/toolbox"))
        assert "COLOUR" not in json.loads(before)
        assert json.loads(after)["COLOUR"] == "green"
        write(tmp_path)
        assert (await ask(sim, show, "mcp/toolbox")).status_code == 500


async def test_a_home_keeps_the_mcp_json_that_is_there(tmp_path: Path) -> None:
    path = write(tmp_path, toolbox=TOOLBOX)
    before = path.read_text(encoding="utf-8")
    async with Simulator(SimConfig(scenario="idle", home=tmp_path)):
        assert path.read_text(encoding="utf-8") == before


def test_without_the_mcp_client_the_command_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llmster_sim.traffic.plugins", None)
    ended = CliRunner().invoke(main, ["--port", "0", "--mcp-json", str(write(tmp_path))])
    assert ended.exit_code == 2
    assert "--mcp-json needs the MCP client: pip install mcp" in ended.output
