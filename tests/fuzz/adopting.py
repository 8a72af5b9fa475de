"""Target: the daemon's mcp.json pointed at the gate and back.

Knows JSON and bytes. What an undo must give back was kept aside before anything was touched.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from actions.mcp.mcp_json.adopt import (
    NotAdoptable,
    carry_out_adoption,
    carry_out_undo,
    gated_url,
    is_gated,
    plan_adoption,
    plan_undo,
    read,
)
from actions.mcp.policy.file import McpConfig
from actions.mcp.server_registry import ServerRegistry
from tests.fuzz.choices import Choices

_GATE: Final = "http://127.0.0.1:9811"
_ELSEWHERE: Final = "https://[::1]:443"
_TOKEN: Final = "dp_abcdefgh_" + "x" * 43
_HOW: Final = frozenset({"command", "args", "env", "cwd", "envFile", "url", "headers", "type", "transport"})
_NAMES: Final = ("files", "web", "a b", "\u00e9", "", "x" * 70, "UPPER.case-1", "../up", "files2")


def _entry(choices: Choices) -> Any:
    if choices.rarely():
        return choices.json(1)
    entry: dict[str, Any] = {}
    keys = (
        "command",
        "url",
        "args",
        "env",
        "headers",
        "cwd",
        "type",
        "timeout",
        "disabled",
        "note",
        "unknown",
    )
    for key in choices.some(keys, 6):
        entry[key] = {
            "command": choices.pick(("npx", "", 7)),
            "url": choices.pick(
                ("http://h/mcp", "ftp://h", "http://[", "http://h:x", gated_url(_GATE, "files"), 7)
            ),
            "args": choices.pick((["-y", choices.text(6)], "x", [1])),
            "env": choices.pick(({"K": "QzSecretzQ"}, {}, 7)),
            "headers": choices.pick(({"Authorization": "Bearer QzSecretzQ"}, {}, [])),
        }.get(key) or choices.json(2, surrogates=choices.flag())
    return entry


def _file(choices: Choices) -> bytes:
    servers = {choices.pick(_NAMES): _entry(choices) for _ in range(choices.upto(4))}
    document: dict[str, Any] = {}
    for _ in range(choices.upto(2)):
        document[choices.text(6)] = choices.pick(
            (float("nan"), choices.json(2), choices.json(2), choices.json(2))
        )
    document["mcpServers"] = servers
    if choices.flag():
        document["after"] = choices.json(2)
    text = json.dumps(
        document,
        indent=choices.pick((2, 4, None, "\t")),
        ensure_ascii=choices.flag(),
        separators=choices.pick((None, (",", ":"), (" , ", " : "))),
    )
    text = choices.pick(("", "\n", " ")) + text + choices.pick(("", "\n", "\n\n", " "))
    if choices.flag():
        text = text.replace("\n", choices.pick(("\r\n", "\n\n")))
    data = text.encode("utf-8", "surrogatepass")
    return data if not choices.rarely() else data + choices.raw(8)


def adoption(choices: Choices) -> None:
    """Adopt then undo gives every byte back, at another address of ours too; nothing is lost or touched besides."""
    folder = Path(tempfile.mkdtemp(prefix="daemonpulse-fuzz-"))
    try:
        _adopt_and_undo(choices, folder)
    finally:
        shutil.rmtree(folder)


def _adopt_and_undo(choices: Choices, folder: Path) -> None:
    path = folder / "mcp.json"
    before = _file(choices)
    path.write_bytes(before)
    state = folder / "state"
    state.mkdir()
    registry = ServerRegistry(state, McpConfig())
    try:
        file = read(path)
    except NotAdoptable:
        assert path.read_bytes() == before
        return
    plan = plan_adoption(file, gate_url=_GATE, token=_TOKEN, taken=frozenset(choices.some(_NAMES, 1)))
    assert "QzSecretzQ" not in plan.diff(), plan.diff()
    assert path.read_bytes() == before, "a plan changed the file"
    if not plan.changes:
        assert not plan.moved, plan.moved
        return
    carry_out_adoption(plan, registry)
    _only_reached_otherwise(file.document, json.loads(path.read_bytes()), plan.moved)
    again = plan_adoption(read(path), gate_url=_GATE, token=_TOKEN)
    assert not (again.moved.keys() & plan.moved.keys()), (
        f"adopted twice: {again.moved.keys() & plan.moved.keys()}"
    )
    registry = ServerRegistry(state, McpConfig())  # as after a restart
    for server in registry.servers.values():
        assert "QzSecretzQ" not in str(server.reach.shown()), server.reach.shown()
    assert {name: dict(entry) for name, entry in registry.adopted.items()} == plan.moved, (
        "the registry lost something"
    )
    gate_url = choices.pick((_GATE, _ELSEWHERE))
    if choices.flag():
        _adopt_again_at(gate_url, path, registry)
    is_edited = choices.flag()
    edited = _edit(choices, path) if is_edited else None
    undo = plan_undo(read(path), registry, gate_url=gate_url)
    assert "QzSecretzQ" not in undo.diff(), undo.diff()
    carry_out_undo(undo, registry)
    after = path.read_bytes()
    assert not ServerRegistry(state, McpConfig()).adopted, "an adopted server stayed behind"
    if not is_edited:
        assert after == before, f"{before!r} came back as {after!r}"
        return
    found, original = json.loads(after), json.loads(before)
    added = found["mcpServers"].pop("added since")
    assert added == edited, f"what was added since became {added}"
    assert found == original, f"{original} came back as {found}"
    assert list(found) == list(original), "keys changed their order"


def _adopt_again_at(gate_url: str, path: Path, registry: ServerRegistry) -> None:
    before, known = json.loads(path.read_bytes())["mcpServers"], registry.adopted
    again = plan_adoption(read(path), gate_url=gate_url, token="dp_another", adopted=known)
    assert not (again.moved.keys() & known.keys()), f"adopted twice: {again.moved.keys() & known.keys()}"
    carry_out_adoption(again, registry)
    assert registry.adopted.items() >= known.items(), "a definition was lost"
    after = json.loads(path.read_bytes())["mcpServers"]
    for name in known:
        assert after[name] == {**before[name], "url": gated_url(gate_url, name)}, after[name]


def _edit(choices: Choices, path: Path) -> Any:
    """Add a server, as a person would in between."""
    document = json.loads(path.read_bytes())
    document["mcpServers"]["added since"] = entry = choices.json(1)
    path.write_text(json.dumps(document), encoding="utf-8")
    return entry


def _only_reached_otherwise(
    before: Mapping[str, Any], after: Mapping[str, Any], moved: Mapping[str, Mapping[str, Any]]
) -> None:
    assert list(after) == list(before), f"{list(before)} became {list(after)}"
    for key in before.keys() - {"mcpServers"}:
        assert after[key] == before[key], f"{key} was changed"
    assert list(after["mcpServers"]) == list(before["mcpServers"])
    for name, entry in before["mcpServers"].items():
        now = after["mcpServers"][name]
        if name not in moved:
            assert now == entry, f"{name} was changed and did not move"
            continue
        assert is_gated(name, now, _GATE), now
        assert moved[name] == entry, f"{name} moved as {moved[name]}"
        assert {key: value for key, value in now.items() if key not in _HOW} == {
            key: value for key, value in entry.items() if key not in _HOW
        }, f"unknown keys of {name} were changed"
