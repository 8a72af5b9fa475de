"""The private parts of the MCP SDK that are used: this fails when they change."""

import ast
import inspect
from pathlib import Path

from mcp.client import _transport
from mcp.shared.dispatcher import Dispatcher

from actions.mcp.upstream import sdk

ROOT = Path(__file__).parent.parent.parent.parent.parent


def test_the_sdk_still_has_the_private_names_that_are_used() -> None:
    assert sdk.TransportStreams == _transport.TransportStreams
    assert {"receive", "aclose", "__anext__", "__aenter__", "__aexit__"} <= set(dir(_transport.ReadStream))
    assert list(inspect.signature(_transport.WriteStream.send).parameters) == ["self", "item"]
    assert Dispatcher.__module__ == "mcp.shared.dispatcher"


def test_no_other_file_uses_a_private_module_of_the_sdk() -> None:
    for file in (ROOT / "actions").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in {"mcp", "mcp_types"}:
                is_private = any(part.startswith("_") for part in (node.module or "").split("."))
                assert not is_private or file.name == "sdk.py", f"{file.name}: {node.module}"
