"""Soaks the actions service: loads, ejects, denials, tool calls and metrics over a daemon that restarts meanwhile.

Knows the service by its HTTP, and its database by size. The database grows, because an audit only ever grows: by as
much in every quarter, and no further than what its rows explain.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from actions.store.audit import AuditBroken
from actions.store.database import FILE_NAME
from llmster_sim.server import SimConfig, Simulator
from tests.actions.conftest import SMALL, Forge, forges
from tests.actions.mcp.conftest import rule, toolbox
from tests.soak.footprint import Curve, Limits
from tests.soak.wire import quick_reconnects

CALLS_PER_CYCLE = 3
NEW_CLIENT_EVERY, RESTART_EVERY, DROP_EVERY = 10, 40, 25
LIMITS = Limits(rss_mb=8.0, blocks=6_000, objects=1_000, tasks=6, descriptors=3)
"""Sockets that are opened when first needed, with their tasks, may not be open yet where the curve begins."""
FEWEST_BYTES = 300_000
"""A database smaller than this after a quarter grows in steps of its pages: nothing can be said of its evenness."""
MOST_UNEVEN = 1.25
"""By so much the quarter that grew the database most may exceed the one that did least."""


async def soak(*, cycles: int) -> tuple[Curve, list[str]]:
    """Run so many cycles; return the curve and what is wrong, memory aside."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        await asyncio.to_thread(_write_policy, state)
        async with (
            Simulator(SimConfig(scenario="idle", speed=1e6)) as sim,
            forges(Path(folder)) as start,
        ):
            forge = await start(sim, state=state)
            token = await forge.token("read", name="reader")
            with quick_reconnects():
                async with _tools(forge, token) as tools:
                    return await _Run(sim, forge, token, tools, state / FILE_NAME).run(cycles)


def _write_policy(state: Path) -> None:
    state.mkdir(mode=0o700)
    policy = toolbox(calls_per_minute=1e9) + rule("deny", "add") + rule("allow")
    (state / "mcp.toml").write_text(policy, encoding="utf-8")


@contextlib.asynccontextmanager
async def _tools(forge: Forge, token: str) -> AsyncIterator[Client]:
    """A session of the official client through the gate."""
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as http,
        Client(streamable_http_client(f"{forge.url}/mcp/toolbox", http_client=http), cache=None) as client,
    ):
        yield client


class _Run:
    def __init__(self, sim: Simulator, forge: Forge, token: str, tools: Client, database: Path) -> None:
        self._sim = sim
        self._forge = forge
        self._token = token
        self._tools = tools
        self._database = database
        self._expected: Counter[str] = Counter()
        self._sizes: list[int] = []
        self._problems: list[str] = []
        self._cuts = 0

    async def run(self, cycles: int) -> tuple[Curve, list[str]]:
        curve = Curve("actions", LIMITS)
        quarters = {cycles * quarter // 4 for quarter in range(1, 5)}
        await self._cycle(0)
        curve.sample("start")
        for number in range(1, cycles + 1):
            await self._cycle(number)
            if number in quarters:
                rows, size = await asyncio.to_thread(_audit_size, self._database)
                self._sizes.append(size)
                curve.sample(f"{number:,} cycles, {size / 1e6:.1f} MB")
                curve.notes.append(f"{number:,} cycles: {rows:,} audit rows, {size / rows:,.0f} bytes each")
        await self._check_audit()
        self._check_growth()
        return curve, self._problems

    async def _cycle(self, number: int) -> None:
        """One round of what operators and models do."""
        if number % RESTART_EVERY == RESTART_EVERY - 1:
            await self._sim.restart()
            await self._connected_anew()
        if number % DROP_EVERY == DROP_EVERY - 1:
            self._sim.faults.drop_connections()
            await self._connected_anew()
        name = f"guest-{number}"
        self._expect_done("load", await self._forge.load(instance_id=name))
        self._expect_done("eject", await self._forge.post("models/eject", instance_id=name))
        self._expected.update(intent=2, outcome=2)
        denied = await self._forge.post(
            "models/load", model=SMALL, headers={"Authorization": f"Bearer {self._token}"}
        )
        self._note(denied.status_code == 403, f"a reader's load was answered {denied.status_code}")
        self._expected["denied"] += 1
        for _ in range(CALLS_PER_CYCLE):
            await self._call(self._tools)
        if number % NEW_CLIENT_EVERY == 0:
            async with _tools(self._forge, self._token) as another:
                await another.list_tools()
                await self._call(another)
                refused = await another.call_tool("add", {"a": 1, "b": 2})
                self._note(refused.is_error is True, "a denied tool was called")
                self._expected["denied"] += 1
        for path in ("/metrics", "/v1/operations?limit=20", "/v1/audit?limit=20", "/docs"):
            answer = await self._forge.http.get(path)
            self._note(answer.status_code == 200, f"GET {path} was answered {answer.status_code}")

    def _expect_done(self, what: str, answer: httpx.Response) -> None:
        done = answer.status_code == 200 and answer.json()["state"] == "done"
        self._note(done, f"a {what} was answered {answer.status_code}: {answer.text[:200]}")

    async def _call(self, client: Client) -> None:
        result = await client.call_tool("echo", {"text": "hello"})
        self._note(not result.is_error, f"a tool call failed: {result}")
        self._expected.update(intent=1, outcome=1)

    async def _connected_anew(self) -> None:
        """Wait until the service has noticed the cut, and has a session again."""
        client = self._forge.parts.service.daemons["box"].client
        self._cuts += 1
        async with asyncio.timeout(60):
            while client.sessions <= self._cuts:  # noqa: ASYNC110 - nothing tells but the count
                await asyncio.sleep(0.01)

    async def _check_audit(self) -> None:
        audit = self._forge.parts.service.audit
        try:
            await audit.verify()
        except AuditBroken as error:
            self._problems.append(str(error))
        found = {
            kind: int(await self._forge.metric("daemonpulse_audit_entries_total", kind=kind) or 0)
            for kind in ("intent", "outcome", "denied")
        }
        if found != dict(self._expected):
            self._problems.append(f"audit entries {found}, not {dict(self._expected)}")

    def _check_growth(self) -> None:
        grown = [after - before for before, after in zip(self._sizes, self._sizes[1:], strict=False)]
        if self._sizes[0] > FEWEST_BYTES and max(grown) > MOST_UNEVEN * min(grown):
            self._problems.append(f"the database grew unevenly, by {grown} bytes a quarter")

    def _note(self, is_fine: bool, problem: str) -> None:  # noqa: FBT001 - reads as an assertion
        if not is_fine:
            self._problems.append(problem)


def _audit_size(database: Path) -> tuple[int, int]:
    """Count the audit's rows and the database's bytes, its write-ahead log merged first."""
    with contextlib.closing(sqlite3.connect(database, timeout=30)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        rows = db.execute("SELECT count(*) FROM audit").fetchone()[0]
    return rows, database.stat().st_size
