"""Attacks on the policy file and its store: whatever takes the file's place, what it denied stays denied."""

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from actions import app
from exporter.shared.bounded_file import MAX_BYTES
from exporter.shared.settings_table import SettingsError
from tests.actions.conftest import settings
from tests.actions.mcp.conftest import Gated, Start, eventually, rawbox, start, stop

__all__ = ["start"]

DENIED = rawbox() + '[[rules]]\nprompt = "mail"\ndecision = "deny"\n'


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "folder": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
    "loop of links": _loop,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "empty": lambda path: path.write_text(""),
    "blank": lambda path: path.write_text("\n \n"),
    "huge": lambda path: path.write_bytes(b"#" * (MAX_BYTES + 1)),
    "not UTF-8": lambda path: path.write_bytes(DENIED.encode() + b"# \xff"),
    "UTF-16": lambda path: path.write_text(DENIED, encoding="utf-16"),
    "byte order mark": lambda path: path.write_text(DENIED, encoding="utf-8-sig"),
    "cut in a word": lambda path: path.write_text(DENIED[: DENIED.rindex("deny") + 2]),
    "unknown key": lambda path: path.write_text(f"{DENIED}\ntoken_name = 'x'\n"),
    "schema that means nothing": lambda path: path.write_text(
        f"{DENIED}\nschema = {{ maxlength = ['x'] }}\n"
    ),
}


async def prompts(gate: Gated) -> set[str]:
    async with gate.client("rawbox") as client:
        return {prompt.name for prompt in (await client.list_prompts()).prompts}


def damage(path: Path, how: Callable[[Path], object]) -> None:
    """Put something else in the place of a file."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    how(path)


async def look(gate: Gated) -> None:
    """Look at the policy file twice, as the gate does by itself every second."""
    for _ in range(2):
        async with asyncio.timeout(10):
            await gate.parts.mcp.policy.look(gate.parts.mcp.take)


async def test_whatever_takes_the_place_of_the_policy_file_the_last_policy_stays_in_force(
    start: Start,
) -> None:
    gate = await start(DENIED)
    path = gate.parts.mcp.policy.path
    for name, how in DAMAGES.items():
        damage(path, how)
        await look(gate)
        assert await gate.metric("daemonpulse_mcp_policy_loaded") == 0, name
        assert (await gate.admin.get("/v1/mcp/servers")).json()["policy"]["problem"], name
        assert await prompts(gate) == {"read"}, name
        damage(path, lambda path: path.write_text(DENIED))  # an older version that is put back is taken
        await look(gate)
        assert await gate.metric("daemonpulse_mcp_policy_loaded") == 1, name
    damage(path, lambda path: path.write_text("# no rules\n"))
    await look(gate)
    assert await gate.metric("daemonpulse_mcp_policy_loaded") == 1


@pytest.mark.parametrize("name", ["folder", "pipe", "device", "empty", "byte order mark"])
async def test_so_it_does_over_a_restart(start: Start, name: str) -> None:
    gate = await start(DENIED)
    path = gate.parts.mcp.policy.path
    await stop(gate.task)
    damage(path, DAMAGES[name])
    async with asyncio.timeout(20):
        gate = await start(..., token=gate.token)
    assert await gate.metric("daemonpulse_mcp_policy_loaded") == 0
    assert await prompts(gate) == {"read"}


async def test_a_pipe_in_place_of_the_policy_file_does_not_hold_up_the_next_change(start: Start) -> None:
    gate = await start(DENIED)
    path = gate.parts.mcp.policy.path
    damage(path, os.mkfifo)

    async def loaded() -> bool:
        return await gate.metric("daemonpulse_mcp_policy_loaded") == 1

    async def missed() -> bool:
        return not await loaded()

    await eventually(missed)
    damage(path, lambda path: path.write_text(DENIED))
    await eventually(loaded)


@pytest.mark.parametrize("name", ["folder", "pipe", "device", "huge", "not UTF-8", "empty"])
async def test_what_is_no_file_of_adopted_servers_stops_the_start_with_a_line(
    tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    DAMAGES[name](folder / "mcp-servers.json")
    async with asyncio.timeout(20):
        with pytest.raises(SettingsError, match=r"mcp-servers\.json cannot be read: \S"):
            await app.serve(settings(folder))
