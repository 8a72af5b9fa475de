"""We are killed or told to end at any moment, under traffic: nothing hangs, and all is on record exactly once."""

import asyncio
import json
import random
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from actions.store.audit import Audit
from actions.store.database import Storage
from actions.store.operations import FINISHED
from llmster_sim.server import SimConfig, Simulator
from tests.actions.conftest import SMALL, loaded
from tests.actions.mcp.conftest import holds, rule, toolbox
from tests.actions.mcp.upstream.test_spec import INITIALIZE
from tests.faults.conftest import ActionsProcess, StartActions, StartDaemon, StartExporter, operator
from tests.faults.promises import LIMIT_S, assert_exact, healed, sums
from tests.faults.relay import Delivered, Relay
from tests.otlp_sink import otlp_sink

pytestmark = pytest.mark.timeout(300)  # several processes, one after the other

MCP_ACCEPT = "application/json, text/event-stream"


@pytest.mark.parametrize("seed", range(2))
async def test_an_exporter_that_is_killed_starts_counting_anew_and_counts_exactly(
    run_daemon: StartDaemon, run_exporter: StartExporter, seed: int
) -> None:
    daemon = await run_daemon("--scenario", "steady+agent", "--speed", "20")
    async with Relay(daemon.url) as relay:
        exporter = await run_exporter(relay.url)
        await healed(exporter)
        scrapes = [asyncio.create_task(exporter.scrape()) for _ in range(5)]
        await asyncio.sleep(random.Random(seed).uniform(0, 1))  # any moment will do
        await exporter.program.kill()
        await asyncio.gather(*scrapes, return_exceptions=True)
        relay.delivered = Delivered()
        exporter = await run_exporter(relay.url)
        await healed(exporter)
        await exporter.until(lambda scraped: sums(scraped)[0] >= 5, within_s=LIMIT_S)
        await daemon.program.kill()
        await assert_exact(exporter, relay.delivered)


@pytest.mark.parametrize("seed", range(2))
async def test_an_exporter_that_is_told_to_end_sends_what_it_has_and_ends_cleanly(
    run_daemon: StartDaemon, run_exporter: StartExporter, seed: int
) -> None:
    daemon = await run_daemon("--scenario", "steady+agent", "--speed", "20")
    with otlp_sink() as received:
        async with Relay(daemon.url) as relay:
            exporter = await run_exporter(relay.url, **received.environment())
            await healed(exporter)
            counted = await exporter.until(lambda scraped: sums(scraped)[0] > 0, within_s=LIMIT_S)
            scrapes = [asyncio.create_task(exporter.scrape()) for _ in range(5)]
            await asyncio.sleep(random.Random(seed).uniform(0, 1))  # any moment will do
            assert await exporter.program.terminate() == 0
            await asyncio.gather(*scrapes, return_exceptions=True)
            roots = sum(1 for span in received.spans if not span.parent_span_id)
            assert sums(counted)[0] <= roots <= relay.delivered.predictions
    assert "exporter stopped" in exporter.program.lines[-1]
    assert not [line for line in exporter.program.lines if "level=error" in line or "Traceback" in line]


async def traffic(service: ActionsProcess, seed: int, answered: asyncio.Semaphore) -> None:
    """Command whatever comes to mind until nobody answers."""
    rng = random.Random(seed)
    while True:
        name = rng.choice("abc")
        commands: list[tuple[str, dict[str, str]]] = [
            ("models/load", {"model": SMALL, "instance_id": name}),
            ("models/eject", {"instance_id": name}),
            ("models/load", {"model": "nobody/knows"}),
            ("models/eject-all", {}),
        ]
        rest, query = rng.choice(commands)
        try:
            await service.post(rest, wait=5, **query)
        except httpx.HTTPError:
            return
        answered.release()


async def call_tool(service: ActionsProcess, session: str, name: str, **arguments: Any) -> None:
    """Call a tool of the toolbox through the gate."""
    params = {"name": name, "arguments": arguments}
    call = {"jsonrpc": "2.0", "id": uuid.uuid4().hex, "method": "tools/call", "params": params}
    await service.http.post(
        "/mcp/toolbox", json=call, headers={"Accept": MCP_ACCEPT, "Mcp-Session-Id": session}
    )


async def tool_calls(service: ActionsProcess, marker: Path) -> None:
    """Call tools until nobody answers; one call lasts, and writes to `marker` once it has begun."""
    try:
        hello = await service.http.post("/mcp/toolbox", json=INITIALIZE, headers={"Accept": MCP_ACCEPT})
        session = hello.headers["mcp-session-id"]
        async with asyncio.TaskGroup() as group:
            group.create_task(call_tool(service, session, "slow", seconds=60, marker=str(marker)))
            while True:
                await call_tool(service, session, "echo", text="hello")
    except* httpx.HTTPError:
        pass


async def unfinished(service: ActionsProcess) -> list[str]:
    """List the states of operations that have not come to an end."""
    answer = await service.http.get("/v1/operations", params={"limit": 1000})
    states = [str(operation["state"]) for operation in answer.json()["operations"]]
    return [state for state in states if state not in FINISHED]


async def everything(state: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Verify the chain, and read operations and audit from the file itself."""
    storage = await Storage.open(state)
    try:
        await Audit(storage).verify()
        rows = await storage.read(
            lambda db: [
                [dict(row) for row in db.execute(f"SELECT * FROM {table}")]  # noqa: S608 - one of two words
                for table in ("operations", "audit")
            ]
        )
    finally:
        await storage.close()
    return rows[0], rows[1]


@pytest.mark.parametrize("politely", [False, True], ids=["killed", "told to end"])
async def test_an_actions_service_that_ends_under_traffic_leaves_one_outcome_for_each_intent(
    run_actions: StartActions, tmp_path: Path, *, politely: bool
) -> None:
    state = tmp_path / "state"
    token = await operator(state)
    (state / "mcp.toml").write_text(toolbox() + rule("allow"), encoding="utf-8")
    moment = random.Random(str(politely))
    async with Simulator(SimConfig(scenario="idle", speed=10.0)) as sim:
        for life in range(2):
            service = await run_actions(sim.url, state, token)
            answered = asyncio.Semaphore(0)
            users = [asyncio.create_task(traffic(service, 10 * life + user, answered)) for user in range(3)]
            marker = tmp_path / f"marker {life}"
            users.append(asyncio.create_task(tool_calls(service, marker)))
            await holds(marker, "began")
            for _ in range(moment.randrange(5, 15)):
                await answered.acquire()
            await asyncio.sleep(moment.uniform(0, 0.3))  # any moment will do
            if politely:
                assert await service.program.terminate() == 0
                assert not [line for line in service.program.lines if "Traceback" in line]
            else:
                await service.program.kill()
            await asyncio.gather(*users)
        service = await run_actions(sim.url, state, token)
        async with asyncio.timeout(LIMIT_S):
            while await unfinished(service):  # noqa: ASYNC110 - seen only by asking
                await asyncio.sleep(0.1)
        assert await service.program.terminate() == 0
        operations, entries = await everything(state)
        there = loaded(sim)
    intents = [entry["operation"] for entry in entries if entry["kind"] == "intent"]
    outcomes = [entry["operation"] for entry in entries if entry["kind"] == "outcome"]
    assert operations
    assert sorted(intents) == sorted(outcomes)
    of_tools = {entry["operation"] for entry in entries if entry["action"] == "mcp.call"}
    assert sorted(set(intents) - of_tools) == sorted(operation["id"] for operation in operations)
    ends = [
        json.loads(entry["detail"])["outcome"]
        for entry in entries
        if (entry["subject"], entry["kind"]) == ("toolbox/slow", "outcome")
    ]
    assert len(ends) == 2
    assert (set(ends) == {"interrupted"}) is not politely, f"calls that were going on ended as {ends}"
    told = sum(entry["action"] == "load" for entry in entries if entry["kind"] == "intent")
    assert sim.calls["llm", "loadModel"] <= told, "no load without an intent, and none twice"
    done = {one["subject"] for one in operations if one["action"] == "load" and one["state"] == "done"}
    assert there & set("abc") <= done
