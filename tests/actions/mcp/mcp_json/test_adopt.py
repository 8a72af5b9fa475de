"""mcp.json: pointed at the gate and back, byte for byte, with secrets moved and drift noticed."""

# ruff: noqa: ASYNC240 - small files of a test

import asyncio
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.mcp.mcp_json.adopt import (
    McpJson,
    NotAdoptable,
    carry_out_adoption,
    carry_out_undo,
    plan_adoption,
    plan_undo,
    read,
)
from actions.mcp.mcp_json.drift import Drift
from actions.mcp.policy.file import McpConfig
from actions.mcp.server_registry import ServerRegistry
from actions.metrics import Metrics
from exporter.settings import DaemonSettings
from tests.actions.mcp.conftest import TOOLBOX, Gated, Start, eventually, rule, stop, text_of

GATE_URL = "http://127.0.0.1:9811"
SECRET = "sk-live-0123456789abcdef"


def document() -> dict[str, Any]:
    return {
        "$comment": "keys nobody knows stay",
        "mcpServers": {
            "tools": {
                "command": sys.executable,
                "args": [str(TOOLBOX)],
                "env": {"API_KEY": SECRET},
                "timeout": 99,
            },
            "remote": {
                "url": "https://mcp.example.org/mcp",
                "headers": {"Authorization": f"Bearer {SECRET}"},
                "//": "note",
            },
            "bad name": {"command": "x"},
            "neither": {"hello": 1},
        },
        "other": [1, {"ü": None}],
    }


@pytest.fixture(name="mcp_json")
def _mcp_json(tmp_path: Path) -> Path:
    path = tmp_path / "home" / "mcp.json"
    path.parent.mkdir()
    path.write_text(json.dumps(document(), indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
    path.chmod(0o640)
    return path


async def started(start: Start, mcp_json: Path, **options: Any) -> Gated:
    return await start(f'mcp_json = "{mcp_json}"\n' + rule("allow"), **options)


async def adopt(gate: Gated, **query: Any) -> dict[str, Any]:
    answer = await gate.admin.post("/v1/mcp/adopt", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_adopted_servers_go_through_the_gate_and_their_secrets_are_nowhere_to_be_seen(
    start: Start, mcp_json: Path, tmp_path: Path
) -> None:
    gate = await started(start, mcp_json)
    done = await adopt(gate)
    assert done["servers"] == ["remote", "tools"]
    assert set(done["skipped"]) == {"bad name", "neither"}
    after = json.loads(mcp_json.read_text(encoding="utf-8"))
    entry = after["mcpServers"]["tools"]
    assert entry["url"] == f"{gate.url}/mcp/tools"
    assert entry["timeout"] == 99
    assert "command" not in entry
    assert list(after) == ["$comment", "mcpServers", "other"]
    assert list(after["mcpServers"]) == list(document()["mcpServers"])
    assert after["mcpServers"]["remote"]["//"] == "note"
    assert mcp_json.stat().st_mode & 0o777 == 0o640
    assert "can be read by others" in done["warning"]
    assert SECRET not in mcp_json.read_text(encoding="utf-8")
    assert SECRET not in json.dumps(done)
    for path in (tmp_path / "state" / "mcp-servers.json", Path(done["backup"])):
        assert path.stat().st_mode & 0o777 == 0o600
        assert SECRET in path.read_text(encoding="utf-8")
    for route in ("/v1/mcp/servers", "/v1/mcp/servers/tools/tools", "/v1/audit"):
        assert SECRET not in (await gate.admin.get(route)).text
    token = entry["headers"]["Authorization"].removeprefix("Bearer ")
    async with gate.client("tools", token=token) as client:
        assert json.loads(text_of(await client.call_tool("env", {})))["API_KEY"] == SECRET
    await stop(gate.task)
    gate = await started(start, mcp_json)
    async with gate.client("tools", token=token) as client:
        assert text_of(await client.call_tool("echo", {"text": "after a restart"})) == "after a restart"


async def test_without_a_word_of_the_policy_mcp_json_is_in_the_daemons_home(
    start: Start, mcp_json: Path
) -> None:
    daemon = DaemonSettings(name="box", url="http://127.0.0.1:9", token=None, home=mcp_json.parent)
    gate = await start(rule("allow"), daemons=(daemon,))
    assert (await adopt(gate, dry_run="true"))["mcp_json"] == str(mcp_json)


async def test_a_dry_run_shows_the_change_and_changes_nothing(start: Start, mcp_json: Path) -> None:
    before = mcp_json.read_bytes()
    gate = await started(start, mcp_json)
    shown = await adopt(gate, dry_run="true")
    assert not shown["done"]
    assert f'+            "url": "{gate.url}/mcp/tools"' in shown["diff"]
    assert SECRET not in shown["diff"]
    assert mcp_json.read_bytes() == before
    tokens = await gate.parts.tokens.all()
    assert {token.name for token in tokens} == {"admin", "llmster"}


async def test_undo_gives_back_every_byte(start: Start, mcp_json: Path) -> None:
    before = mcp_json.read_bytes()
    gate = await started(start, mcp_json)
    await adopt(gate)
    assert (await adopt(gate))["done"] is False  # nothing left to do
    undone = await adopt(gate, undo="true")
    assert undone["servers"] == ["remote", "tools"]
    assert mcp_json.read_bytes() == before
    assert (await gate.admin.get("/v1/mcp/servers")).json()["servers"] == []


async def test_at_another_address_what_was_adopted_is_pointed_at_it_and_nothing_else(
    start: Start, mcp_json: Path
) -> None:
    before = mcp_json.read_bytes()
    gate = await started(start, mcp_json)
    await adopt(gate)
    written = json.loads(mcp_json.read_bytes())["mcpServers"]["tools"]
    await stop(gate.task)
    gate = await started(start, mcp_json)
    assert gate.url not in written["url"], "the address is the old one"
    assert (await adopt(gate, dry_run="true"))["servers"] == ["remote", "tools"]
    done = await adopt(gate)
    assert (done["done"], done["servers"]) == (True, ["remote", "tools"])
    entry = json.loads(mcp_json.read_bytes())["mcpServers"]["tools"]
    assert entry == {**written, "url": f"{gate.url}/mcp/tools"}
    assert gate.parts.mcp.pool.registry.adopted["tools"] == document()["mcpServers"]["tools"]
    token = entry["headers"]["Authorization"].removeprefix("Bearer ")
    async with gate.client("tools", token=token) as client:
        assert text_of(await client.call_tool("echo", {"text": "still there"})) == "still there"
    assert len(await gate.audit(action="token-new")) == 1
    await adopt(gate, undo="true")
    assert mcp_json.read_bytes() == before


async def test_undo_at_another_address_gives_back_every_byte(start: Start, mcp_json: Path) -> None:
    before = mcp_json.read_bytes()
    gate = await started(start, mcp_json)
    await adopt(gate)
    await stop(gate.task)
    gate = await started(start, mcp_json)
    assert (await adopt(gate, undo="true"))["servers"] == ["remote", "tools"]
    assert mcp_json.read_bytes() == before


async def test_the_next_adoption_replaces_a_token_that_was_revoked(start: Start, mcp_json: Path) -> None:
    gate = await started(start, mcp_json)
    await adopt(gate)
    (made,) = [token for token in await gate.parts.tokens.all() if token.name == "llmster-mcp"]
    await gate.parts.service.storage.write(lambda db: gate.parts.tokens.revoke(db, made.id))
    assert (await adopt(gate))["servers"] == ["remote", "tools"]
    token = json.loads(mcp_json.read_bytes())["mcpServers"]["tools"]["headers"]["Authorization"]
    async with gate.client("tools", token=token.removeprefix("Bearer ")) as client:
        assert text_of(await client.call_tool("echo", {"text": "again"})) == "again"
    rows = await gate.audit(action="token-new")
    assert [row["detail"]["name"] for row in rows] == ["llmster-mcp"] * 2
    assert rows[0]["subject"] == made.id


async def test_undo_keeps_what_was_changed_since(start: Start, mcp_json: Path) -> None:
    gate = await started(start, mcp_json)
    await adopt(gate)
    after = json.loads(mcp_json.read_text(encoding="utf-8"))
    after["mcpServers"]["tools"]["timeout"] = 5
    after["mcpServers"]["new"] = {"command": "y"}
    mcp_json.write_text(json.dumps(after), encoding="utf-8")
    await adopt(gate, undo="true")
    found = json.loads(mcp_json.read_text(encoding="utf-8"))
    assert found["mcpServers"]["tools"] == {**document()["mcpServers"]["tools"], "timeout": 5}
    assert found["mcpServers"]["new"] == {"command": "y"}


async def test_a_server_that_bypasses_the_gate_is_drift(start: Start, mcp_json: Path) -> None:
    gate = await started(start, mcp_json)

    async def drift_is(value: float | None) -> None:
        async def seen() -> bool:
            await gate.parts.mcp.adoption.drift.look()
            return await gate.metric("daemonpulse_mcp_config_drift") == value

        await eventually(seen)

    await drift_is(4)
    await adopt(gate)
    await drift_is(2)
    drift = (await gate.admin.get("/v1/mcp/servers")).json()["drift"]
    assert drift["bypassing"] == ["bad name", "neither"]
    mcp_json.write_text("{", encoding="utf-8")
    await drift_is(None)
    mcp_json.unlink()
    await drift_is(0)


async def test_of_two_looks_at_once_the_later_one_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mcp.json"
    path.write_text('{"mcpServers": {"bypasses": {"command": "x"}}}')
    has_read, go_on = threading.Event(), threading.Event()

    def slowly(path: Path) -> McpJson:
        found = read(path)
        if not has_read.is_set():
            has_read.set()
            assert go_on.wait(20)
        return found

    metrics = Metrics()
    drift = Drift(path, gate_url=lambda: GATE_URL, metrics=metrics)
    monkeypatch.setattr("actions.mcp.mcp_json.drift.read", slowly)
    early = asyncio.create_task(drift.look())
    await asyncio.to_thread(has_read.wait, 20)
    path.write_text('{"mcpServers": {}}')
    late = asyncio.create_task(drift.look())
    await asyncio.sleep(0.05)  # time in which the late one could overtake
    go_on.set()
    await asyncio.gather(early, late)
    assert drift.bypassing == ()
    assert b"daemonpulse_mcp_config_drift 0.0" in metrics.expose("")[0]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"mcpServers": {} // mine\n}', "JSON has no comments"),
        ('{"mcpServers": []}', 'no table "mcpServers"'),
        ("[]", 'no table "mcpServers"'),
        ('{"a": 1, "a": 2}', "twice"),
        ("\ufeff{}", "not JSON"),
        ("[" * 100_000, "cannot be read"),
    ],
)
async def test_a_file_that_cannot_be_kept_whole_is_left_alone(
    start: Start, mcp_json: Path, text: str, why: str
) -> None:
    mcp_json.write_text(text, encoding="utf-8")
    gate = await started(start, mcp_json)
    answer = await gate.admin.post("/v1/mcp/adopt")
    assert answer.status_code == 409
    assert why in answer.json()["detail"]
    assert mcp_json.read_text(encoding="utf-8") == text


async def test_a_link_is_followed_and_stays_a_link(start: Start, mcp_json: Path) -> None:
    real = mcp_json.rename(mcp_json.with_name("real.json"))
    mcp_json.symlink_to(real)
    gate = await started(start, mcp_json)
    await adopt(gate)
    assert mcp_json.is_symlink()
    assert "Bearer dp_" in real.read_text(encoding="utf-8")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(max_size=6), JSON, max_size=3),
    st.dictionaries(
        st.sampled_from(["a", "b", "c d", "é"]),
        st.dictionaries(st.sampled_from(["command", "url", "env", "x", "y"]), JSON, max_size=4),
        max_size=3,
    ),
)
def test_adoption_touches_nothing_but_how_servers_are_reached(
    rest: dict[str, Any], servers: dict[str, Any]
) -> None:
    found = {**rest, "mcpServers": servers}
    file = McpJson(Path("/x/mcp.json"), json.dumps(found), found, 0o600, (0, 0))
    plan = plan_adoption(file, gate_url="http://127.0.0.1:9811", token="t")
    after = json.loads(plan.text)
    assert {key: value for key, value in after.items() if key != "mcpServers"} == {
        key: value for key, value in rest.items() if key != "mcpServers"
    }
    assert list(after["mcpServers"]) == list(servers)
    for name, entry in after["mcpServers"].items():
        unknown = {key: value for key, value in servers[name].items() if key in {"x", "y"}}
        assert unknown.items() <= entry.items()
        assert (name in plan.moved) == (entry.get("url") == f"http://127.0.0.1:9811/mcp/{name}")
        assert plan.moved.get(name, servers[name]) == servers[name]


def test_half_a_character_in_mcp_json_is_moved_and_comes_back_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    before = b'{"mcpServers": {"a": {"command": "x", "note": "cut \\ud83d"}, "b": {"x": "\\ude00"}}}'
    path.write_bytes(before)
    registry = ServerRegistry(tmp_path, McpConfig())
    carry_out_adoption(plan_adoption(read(path), gate_url=GATE_URL, token="t"), registry)
    assert json.loads(path.read_bytes())["mcpServers"]["a"]["note"] == "cut \ud83d"
    carry_out_undo(plan_undo(read(path), ServerRegistry(tmp_path, McpConfig()), gate_url=GATE_URL), registry)
    assert path.read_bytes() == before


@pytest.mark.parametrize(("number", "why"), [("NaN", "NaN is not JSON"), ("-1e400", "-1e400 is too large")])
def test_numbers_that_could_not_be_written_back_are_refused(tmp_path: Path, number: str, why: str) -> None:
    path = tmp_path / "mcp.json"
    path.write_text(f'{{"mcpServers": {{}}, "x": {number}}}')
    with pytest.raises(NotAdoptable, match=why):
        read(path)


def test_reading_refuses_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone", Path(os.devnull)):
        with pytest.raises(NotAdoptable):
            read(path)
