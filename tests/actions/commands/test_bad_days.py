"""The daemon restarts or vanishes, the disk is full, clocks jump: nothing is guessed, nothing is done unrecorded."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from actions.store.database import Storage
from llmster_sim.server import SimConfig, Simulator
from tests.actions.conftest import SMALL, Forge, StartForge, loaded


@pytest.fixture
async def slow() -> AsyncIterator[Simulator]:
    """A daemon whose loads go on until a test lets time pass."""
    async with Simulator(SimConfig(scenario="idle", manual_clock=True)) as simulator:
        yield simulator


async def until(true: Callable[[], object], *, within_s: float = 10) -> None:
    """Wait for something that is only seen by looking."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110 - it happens in the simulator
            await asyncio.sleep(0.01)


async def begin_load(forge: Forge, sim: Simulator) -> str:
    begun = await forge.load(wait=None)
    assert begun.status_code == 202, begun.text
    await until(lambda: sim.daemon.loader.loads)
    return str(begun.json()["id"])


async def test_a_daemon_that_restarts_mid_load_fails_the_load_and_says_why(
    start_forge: StartForge, slow: Simulator
) -> None:
    forge = await start_forge(slow)
    operation_id = await begin_load(forge, slow)
    await slow.restart()
    operation = await forge.operation(operation_id)
    assert operation["state"] == "failed"
    assert operation["problem"]["type"] == "urn:daemonpulse:problem:interrupted"
    assert "restarted" in operation["problem"]["detail"]


async def test_a_socket_that_breaks_mid_load_does_not_hide_that_the_load_succeeds(
    start_forge: StartForge, slow: Simulator
) -> None:
    forge = await start_forge(slow)
    operation_id = await begin_load(forge, slow)
    slow.faults.drop_connections()
    finding_out = forge.parts.service.operations.live[operation_id]
    await until(lambda: finding_out.phase == "recovering")
    slow.clock.advance(60)
    operation = await forge.operation(operation_id)
    assert operation["state"] == "done", operation
    assert operation["result"]["instance_id"] == SMALL
    assert slow.calls["llm", "loadModel"] == 1


async def test_a_socket_that_breaks_mid_load_does_not_hide_that_the_load_fails(
    start_forge: StartForge, slow: Simulator
) -> None:
    forge = await start_forge(slow)
    operation_id = await begin_load(forge, slow)
    slow.faults.drop_connections()
    slow.daemon.loader.abort(slow.daemon.loader.loads[0])
    operation = await forge.operation(operation_id)
    assert operation["state"] == "failed"
    assert "did not finish loading" in operation["problem"]["detail"]


async def test_progress_shows_on_the_operation(start_forge: StartForge, slow: Simulator) -> None:
    forge = await start_forge(slow)
    operation_id = await begin_load(forge, slow)
    live = forge.parts.service.operations.live[operation_id]
    slow.clock.advance(0.45)
    await until(lambda: live.progress and live.progress > 0)
    shown = (await forge.http.get(f"/v1/operations/{operation_id}")).json()
    assert (shown["state"], shown["phase"]) == ("running", "loading")
    assert 0 < shown["progress"] < 1
    assert await forge.metric("daemonpulse_operations_in_progress", action="load") == 1
    slow.clock.advance(60)
    assert (await forge.operation(operation_id))["state"] == "done"
    assert await forge.metric("daemonpulse_operations_in_progress", action="load") == 0
    assert await forge.metric("daemonpulse_action_duration_seconds_count", action="load") == 1


async def test_a_daemon_that_is_gone_is_503_and_nothing_is_begun(forge: Forge, sim: Simulator) -> None:
    await forge.load()
    await sim.stop()
    commands: tuple[tuple[str, dict[str, Any]], ...] = (
        ("models/load", {"model": SMALL, "instance_id": "x"}),
        ("models/eject", {"instance_id": SMALL}),
        ("models/eject-all", {}),
        ("models/download", {"model": "new/model"}),
        ("probe", {"model": SMALL}),
        ("preflight", {"model": SMALL}),
    )
    for path, query in commands:
        response = await forge.post(path, wait=None, **query)
        assert response.status_code == 503, (path, response.text)
        assert response.json()["type"] == "urn:daemonpulse:problem:daemon-unreachable"
    assert len(await forge.audit("intent")) == 1
    (shown,) = (await forge.http.get("/v1/daemons")).json()["daemons"]
    assert (shown["state"], shown["version"]) == ("down", None)


async def test_a_daemon_that_comes_back_is_served_again(forge: Forge, sim: Simulator) -> None:
    await sim.restart()
    async with asyncio.timeout(30):
        while (await forge.load()).status_code == 503:  # noqa: ASYNC110 - seen only by asking
            await asyncio.sleep(0.05)
    assert SMALL in loaded(sim)


async def test_a_daemon_that_is_frozen_during_an_eject_is_looked_at_when_it_thaws(
    forge: Forge, sim: Simulator
) -> None:
    sim.faults.close_mid_call("llm.unloadModel", times=1)
    response = await forge.post("models/eject", instance_id="qwen/qwen3-8b")
    assert response.status_code == 409
    assert response.json()["type"] == "urn:daemonpulse:problem:not-verified"
    assert "qwen/qwen3-8b" in loaded(sim)
    assert (await forge.post("models/eject", instance_id="qwen/qwen3-8b")).status_code == 200


async def test_an_eject_whose_answer_is_lost_is_done_when_the_instance_is_gone(
    forge: Forge, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    unload = sim.daemon.unload

    def and_break(identifier: str, *, domain: str | None = None) -> None:
        unload(identifier, domain=domain)
        sim.faults.drop_connections()

    monkeypatch.setattr(sim.daemon, "unload", and_break)
    response = await forge.post("models/eject", instance_id="qwen/qwen3-8b")
    assert response.status_code == 200, response.text


async def test_a_wrong_daemon_token_says_so(start_forge: StartForge) -> None:
    async with Simulator(SimConfig(scenario="idle", token="sk-lm-AAAAAAAA:" + "B" * 20)) as sim:
        forge = await start_forge(sim, daemon_token="sk-lm-AAAAAAAA:" + "C" * 20)
        response = await forge.load(wait=None)
    assert response.status_code == 503
    assert "daemon_token_file" in response.json()["detail"]
    assert "C" * 20 not in response.text


async def test_a_rotated_daemon_token_is_used_by_the_next_command(
    start_forge: StartForge, tmp_path: Path
) -> None:
    """REST calls, which a command makes beside the WebSocket session, read the token when they need it."""
    old, new = (f"sk-lm-AAAAAAAA:{letter * 20}" for letter in "BC")
    file = tmp_path / "token"
    file.write_text(old)
    async with Simulator(SimConfig(scenario="idle", speed=100.0, token=old)) as sim:
        forge = await start_forge(sim, daemon_token=old, token_file=file)
        assert (await forge.post("probe", model="qwen/qwen3-8b")).status_code == 200
        sim.faults.rotate_token(new)
        refused = await forge.post("probe", model="qwen/qwen3-8b")
        file.write_text(new)
        taken = await forge.post("probe", model="qwen/qwen3-8b")
    assert (refused.status_code, taken.status_code) == (503, 200), taken.text
    assert old not in refused.text


# The disk ------------------------------------------------------------------------------------------------------------


def query_only(storage: Storage, *, on: bool) -> None:
    """Make the database read-only, as a file system that was remounted does."""
    word = "ON" if on else "OFF"
    storage._writer.submit(storage._write_connection.execute, f"PRAGMA query_only = {word}").result()


async def test_a_read_only_database_stops_every_action_and_shows(forge: Forge, sim: Simulator) -> None:
    storage, before = forge.parts.service.storage, loaded(sim)
    assert await forge.metric("daemonpulse_audit_writable") == 1
    query_only(storage, on=True)
    commands: tuple[tuple[str, dict[str, Any]], ...] = (
        ("models/load", {"model": SMALL}),
        ("models/eject", {"instance_id": "qwen/qwen3-8b"}),
        ("models/eject-all", {}),
        ("models/download", {"model": "new/model"}),
        ("probe", {"model": "qwen/qwen3-8b"}),
        ("desired", {"model": SMALL}),
    )
    for path, query in commands:
        response = (
            await forge.post(path, wait=None, **query)
            if path != "desired"
            else await forge.http.post(forge.path(path), params=query)
        )
        assert response.status_code == 503, path
        assert response.json()["type"] == "urn:daemonpulse:problem:audit-unavailable"
    assert await forge.metric("daemonpulse_audit_writable") == 0
    assert loaded(sim) == before
    assert not [name for name in sim.calls if name[1] in {"loadModel", "unloadModel"}]
    assert (await forge.http.get("/v1/daemons")).status_code == 200
    query_only(storage, on=False)
    assert (await forge.load()).status_code == 200
    assert await forge.metric("daemonpulse_audit_writable") == 1


async def test_a_disk_that_is_full_stops_every_action(forge: Forge, sim: Simulator) -> None:
    storage = forge.parts.service.storage
    await storage.write(lambda db: db.execute("PRAGMA max_page_count = 1"))
    answers = [(await forge.load("nobody", wait=None, reason="x" * 500)).status_code for _ in range(2)]
    assert answers == [404, 404]
    codes = set()
    for number in range(60):
        response = await forge.load(wait=None, context_length=10 + number, reason="x" * 500)
        codes.add(response.status_code)
        if response.status_code == 503:
            break
    assert 503 in codes
    before = await forge.audit("intent", "denied")
    refused = await forge.load(wait=None, instance_id="y", reason="x" * 500)
    assert refused.status_code == 503
    assert await forge.audit("intent", "denied") == before
    assert "y" not in loaded(sim)
    await storage.write(lambda db: db.execute("PRAGMA max_page_count = 1000000"))
    assert (await forge.load(instance_id="y")).status_code == 200


async def test_an_outcome_that_cannot_be_written_is_written_later(
    start_forge: StartForge, slow: Simulator
) -> None:
    forge = await start_forge(slow)
    operation_id = await begin_load(forge, slow)
    storage = forge.parts.service.storage
    live = forge.parts.service.operations.live[operation_id]
    query_only(storage, on=True)
    slow.clock.advance(60)
    await until(lambda: live.phase == "waiting to write the outcome")
    assert not live.is_finished
    query_only(storage, on=False)
    assert (await forge.operation(operation_id))["state"] == "done"
    assert await forge.parts.service.audit.verify() is not None


async def test_no_call_reaches_the_daemon_when_the_intent_fails_at_the_last_moment(
    forge: Forge, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object, **_kwargs: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(forge.parts.service.audit, "append", broken)
    assert (await forge.load(wait=None)).status_code == 503
    assert sim.calls["llm", "loadModel"] == 0


# Clocks --------------------------------------------------------------------------------------------------------------


async def test_a_wall_clock_that_jumps_back_breaks_neither_chain_nor_order(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    await forge.load(instance_id="first")
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - 10**9 * 3600 * 24 * 365)
    await forge.load(instance_id="second")
    monkeypatch.undo()
    entries = await forge.audit("intent")
    assert [entry["subject"] for entry in entries] == ["first", "second"]
    assert entries[0]["at_ms"] > entries[1]["at_ms"]
    assert await forge.parts.service.audit.verify() is not None


async def test_a_wall_clock_that_jumps_does_not_lengthen_a_drain(
    forge: Forge, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3600 * 24)
    response = await forge.post("models/eject", instance_id="qwen/qwen3-8b", drain_seconds=0.2)
    assert response.status_code == 200
    assert "qwen/qwen3-8b" not in loaded(sim)
