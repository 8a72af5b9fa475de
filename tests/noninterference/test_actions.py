"""Twins whose tool arguments, results, secrets and tokens differ look the same from outside the actions API.

Times, durations, random ids, digests under a random key and ports differ in every run, so numbers and long hexadecimal
words are taken out of what is compared; texts here have none. What an approver is shown is no channel: that is its
purpose, and it asks for a scope.
"""

import asyncio
import contextlib
import io
import re
import shutil
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import pytest

from actions.auth import tokens
from actions.mcp import call
from actions.store.database import FILE_NAME
from tests.actions.mcp.conftest import TOOLBOX, Gated, rule
from tests.noninterference.exporter_channels import Channels, differing, printed
from tests.noninterference.twins import Twin
from tests.otlp_sink import Received, otlp_sink

Start = Callable[..., Awaitable[Gated]]

VARYING = re.compile(rb"(?:X'[0-9A-F]+')|(?:dp_\w+)|(?:\b[0-9a-f]{8,64}\b)|\d+(?:\.\d+)?(?:e-?\d+)?")
GETS = (
    "/v1/audit?limit=1000",
    "/v1/operations?limit=100",
    "/v1/mcp/servers",
    "/v1/mcp/servers/toolbox/tools",
    "/metrics",
    "/v1/x",
)
SHOWN_TO_APPROVERS = "mcp_approvals"
"""The table that keeps what an approver saw."""


def words(twin: Twin, most: int = 60) -> str:
    """Write words without digits."""
    return "".join(character for character in twin.text(most) if not character.isdigit()) or "words"


def policy(twin: Twin) -> str:
    """Write a policy whose servers hold secrets."""
    secret = words(twin).replace(" ", "")
    servers = (
        f'[servers.toolbox]\ncommand = "{sys.executable}"\nargs = ["{TOOLBOX}", "--token", "{secret}"]\n'
        f'env = {{ API_KEY = "{secret}" }}\n'
        f'[servers.web]\nurl = "http://u:{secret}@127.0.0.1:9/mcp?key={secret}"\n'
        f'headers = {{ Authorization = "Bearer {secret}" }}\n'
    )
    tools = {
        "echo": "allow",
        "fails": "allow",
        "structured": "allow",
        "garbage": "allow",
        "add": "deny",
        "meta": "ask",
    }
    return servers + "".join(rule(decision, tool, "toolbox") for tool, decision in tools.items())


async def use(gated: Gated, twin: Twin) -> None:
    """Call tools: some let through, one denied, one asked about and rejected, and some that fail."""
    shape = twin.shape
    async with gated.client() as client:
        for tool in (*shape.choices(("echo", "fails", "add", "structured", "garbage"), k=6), "echo", "add"):
            given = {
                "text": words(twin, 400),
                "password": words(twin),
                "bytes": 9,
                words(twin, 8): [words(twin)],
            }
            with contextlib.suppress(Exception):
                await client.call_tool(tool, given)
        asking = asyncio.create_task(client.call_tool("meta", {"text": words(twin)}))
        (asked,) = await gated.pending()
        denied = await gated.admin.post("/v1/mcp/approvals/deny", params={"id": asked["id"]})
        assert denied.is_success, denied.text
        assert (await asking).is_error
    with contextlib.suppress(Exception):
        async with gated.client("web") as client:
            await client.list_tools()


async def doors(gated: Gated, twin: Twin) -> Channels:
    """Ask for everything that can be asked for, with a right, a wrong and no token."""
    wrong = {"Authorization": f"Bearer dp_aaaaaaaa_{words(twin).replace(' ', '').encode().hex()}"}
    found = {}
    for path in GETS:
        for who, headers in (("admin", {}), ("wrong", wrong)):
            answer = await gated.admin.get(path, headers=headers)
            found[f"{who} GET {path}"] = VARYING.sub(b"N", answer.content)
    return found


def tables(state: Path) -> bytes:
    """Write out the database, but for what an approver was shown."""
    file = state / FILE_NAME
    with contextlib.closing(sqlite3.connect(file)) as db:
        lines = [line for line in db.iterdump() if SHOWN_TO_APPROVERS not in line]
    return VARYING.sub(b"N", "\n".join(lines).encode())


def exported(received: Received) -> Channels:
    """Write out what went to the OTLP receiver, in an order of its own."""
    return {
        "OTLP spans": VARYING.sub(
            b"N", "\n".join(sorted(f"{s.name} {s.attributes} {s.status}" for s in received.spans)).encode()
        ),
        "OTLP logs": VARYING.sub(
            b"N", "\n".join(sorted(f"{r.body} {r.attributes}" for r in received.records)).encode()
        ),
    }


async def run(start: Start, state: Path, seed: int, turn: int) -> Channels:
    """Let one twin use a service of its own, and give what each channel let out."""
    twin, said = Twin(Random(seed), turn), io.StringIO()
    with otlp_sink() as received, printed(said), pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "_ID_ALPHABET", "234567")
        for name, value in received.environment().items():
            patch.setenv(name, value)
        gated = await start(policy(twin))
        await use(gated, twin)
        channels = await doors(gated, twin)
        gated.task.cancel()
        await asyncio.gather(gated.task, return_exceptions=True)
    channels |= exported(received)
    channels["log"] = VARYING.sub(b"N", "\n".join(sorted(said.getvalue().splitlines())).encode())
    channels["database"] = tables(state)
    shutil.rmtree(state)
    return channels


@pytest.mark.parametrize("seed", range(3))
async def test_no_channel_tells_one_twin_from_the_other(start: Start, tmp_path: Path, seed: int) -> None:
    mine, theirs = [await run(start, tmp_path / "state", seed, turn) for turn in (0, 1)]
    assert differing(mine, theirs) == {}
    assert b"tools/call echo" in mine["OTLP spans"]
    assert b"mcp.call" in mine["OTLP logs"]
    assert b"denied" in mine["database"]


async def test_a_digest_that_shows_what_it_names_is_found(start: Start, tmp_path: Path) -> None:
    def shows(value: Any, _key: bytes) -> str:
        return str(value)

    with mock.patch.object(call, "digest", shows):
        mine, theirs = [await run(start, tmp_path / "state", 0, turn) for turn in (0, 1)]
    found = differing(mine, theirs).keys()
    assert {"admin GET /v1/audit?limit=1000", "OTLP spans", "OTLP logs", "database"} <= found
