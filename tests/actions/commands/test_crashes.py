"""kill -9 at any moment: the intent is on record, the operation ends by looking at the daemon, the chain holds."""

import asyncio
import contextlib
import json
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from actions.store.audit import Audit
from actions.store.database import FILE_NAME, Storage
from llmster_sim.server import SimConfig, Simulator
from tests.actions.conftest import SMALL, Forge, StartForge, loaded, make_token

SERVE = """
import asyncio, sys
from pathlib import Path
from actions import app
from tests.actions.conftest import QUICK, NoDriver, daemon, settings
chosen = settings(Path(sys.argv[1]), daemon(sys.argv[2]))
ready = lambda url, parts: print(url, flush=True)
asyncio.run(app.serve(chosen, ready=ready, gpus={"nvidia": NoDriver()}, timeouts=QUICK))
"""


@pytest.fixture
async def paced() -> AsyncIterator[Simulator]:
    """A daemon that loads the small model in about 90 ms: long enough to be killed in."""
    async with Simulator(SimConfig(scenario="idle", speed=10.0)) as simulator:
        yield simulator


@contextlib.asynccontextmanager
async def running(script: str, *arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run Python in a process of its own, up to its first line; whatever happens, it does not outlive the test."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        *arguments,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONPATH": ".:compose"},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            line = await process.stdout.readline()
        assert line, "it did not start"
        yield process, line.decode().strip()
    finally:
        await kill(process)


async def kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


def rows(state: Path, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(state / FILE_NAME) as db:
        found = db.execute(query).fetchall()
    db.close()
    return found


async def settle(sim: Simulator) -> None:
    """Wait until the daemon, which knows nothing of the kill, has finished what it was told."""
    async with asyncio.timeout(20):
        while sim.daemon.loader.loads:  # noqa: ASYNC110 - it happens in the simulator
            await asyncio.sleep(0.01)


async def recovered(
    start_forge: StartForge, sim: Simulator, state: Path
) -> tuple[Forge, list[dict[str, Any]]]:
    """Start again and wait until nothing is unfinished."""
    forge = await start_forge(sim, state=state)
    async with asyncio.timeout(20):
        while forge.parts.service.operations.live:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    operations = (await forge.http.get("/v1/operations", params={"limit": 1000})).json()["operations"]
    return forge, operations


@pytest.mark.parametrize("seed", range(6))
async def test_killed_at_a_random_moment_every_operation_ends_true_to_the_daemon(
    start_forge: StartForge, paced: Simulator, tmp_path: Path, seed: int
) -> None:
    state = tmp_path / "state"
    storage = await Storage.open(state)
    token = await make_token(storage, "operate")
    await storage.close()
    wait_s = random.Random(seed).uniform(0.0, 0.35)
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        running(SERVE, str(state), paced.url) as (service, url),
        httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=5) as http,
    ):
        commands = (
            f"load?model={SMALL}&instance_id=a&wait=5",
            "eject?instance_id=qwen/qwen3-8b&wait=5",
            f"load?model={SMALL}&instance_id=b&wait=5",
        )
        sent = [asyncio.create_task(http.post(f"/v1/daemons/box/models/{command}")) for command in commands]
        await asyncio.sleep(wait_s)  # the random moment is the point
        await kill(service)
        await asyncio.gather(*sent, return_exceptions=True)
    await settle(paced)
    calls = dict(paced.calls)

    forge, operations = await recovered(start_forge, paced, state)
    there = loaded(paced)
    for operation in operations:
        assert operation["state"] in {"done", "failed"}, operation
        name = operation["subject"]
        if operation["action"] == "load":
            assert (operation["state"] == "done") == (name in there), operation
        else:
            assert (operation["state"] == "done") == (name not in there), operation
    for kind in (("llm", "loadModel"), ("llm", "unloadModel")):
        assert paced.calls[kind] == calls.get(kind, 0), "a recovery repeats nothing"
    intents = {entry["operation"] for entry in await forge.audit("intent")}
    outcomes = [entry["operation"] for entry in await forge.audit("outcome")]
    assert intents == {operation["id"] for operation in operations} == set(outcomes)
    assert len(outcomes) == len(intents), "one outcome each"
    acted = calls.get(("llm", "loadModel"), 0) + calls.get(("llm", "unloadModel"), 0)
    assert acted <= len(intents), "no action without an intent"
    assert await forge.parts.service.audit.verify() is not None or not intents


async def crashed(
    state: Path, sim: Simulator, command: dict[str, object], *, state_word: str, before: dict[str, object]
) -> None:
    """Leave a database as a process leaves it that died at a certain point."""
    storage = await Storage.open(state)
    await storage.write(
        lambda db: db.execute(
            "INSERT INTO operations (id, daemon, action, subject, state, actor, owner, digest, request, before,"
            " created_ms) VALUES ('op', 'box', ?, 'x', ?, 'token:ops', 'ops', '', ?, ?, 1)",
            (
                command["action"],
                state_word,
                json.dumps({"daemon": "box", **command}),
                json.dumps({"pid": sim.daemon.pid, **before}),
            ),
        )
    )
    await storage.close()


@pytest.mark.parametrize(
    ("command", "state_word", "references", "expected"),
    [
        ({"action": "load", "model": "qwen/qwen3-8b"}, "pending", [], "failed"),
        ({"action": "load", "model": "qwen/qwen3-8b"}, "running", [], "done"),
        ({"action": "load", "model": "qwen/qwen3-8b"}, "running", ["qwen/qwen3-8b"], "failed"),
        ({"action": "load", "model": SMALL}, "running", [], "failed"),
        ({"action": "eject", "instance_id": "qwen/qwen3-8b"}, "running", ["qwen/qwen3-8b"], "failed"),
        ({"action": "eject", "instance_id": "gone"}, "running", [], "done"),
        ({"action": "eject_all"}, "running", [], "failed"),
        ({"action": "probe", "model": "qwen/qwen3-8b"}, "running", [], "failed"),
        ({"action": "download", "model": "qwen/qwen3-8b"}, "running", [], "done"),
        ({"action": "download", "model": "new/model"}, "running", [], "failed"),
    ],
)
async def test_what_was_left_unfinished_is_resolved_by_looking(
    *,
    start_forge: StartForge,
    sim: Simulator,
    tmp_path: Path,
    command: dict[str, object],
    state_word: str,
    references: list[str],
    expected: str,
) -> None:
    state = tmp_path / "state"
    known = {sim.daemon.instance(name).reference: name for name in references}
    await crashed(state, sim, command, state_word=state_word, before={"references": known})
    forge, (operation,) = await recovered(start_forge, sim, state)
    assert operation["state"] == expected, operation
    assert "by looking at the daemon" in str(operation["result"])
    (outcome,) = await forge.audit("outcome")
    assert (outcome["actor"], outcome["operation"]) == ("recovery", "op")
    assert not [name for name in sim.calls if name[1] in {"loadModel", "unloadModel"}]


@pytest.mark.parametrize(
    "named",
    [
        {"model": "qwen/qwen3-8b", "quantization": "q8_0"},
        {"model": "qwen/qwen3-8b@q8_0"},
        {"model": "https://huggingface.co/qwen/qwen3-8b-gguf"},
    ],
)
async def test_of_a_download_that_no_key_names_it_is_not_guessed_whether_it_ended(
    start_forge: StartForge, sim: Simulator, tmp_path: Path, named: dict[str, object]
) -> None:
    command = {"action": "download", **named}
    await crashed(tmp_path / "state", sim, command, state_word="running", before={})
    _, (operation,) = await recovered(start_forge, sim, tmp_path / "state")
    assert operation["state"] == "failed"
    assert operation["problem"]["type"] == "urn:daemonpulse:problem:interrupted"
    assert "does not show whether it arrived" in operation["problem"]["detail"]


async def test_a_load_the_daemon_still_works_on_is_waited_for(
    start_forge: StartForge, tmp_path: Path
) -> None:
    async with Simulator(SimConfig(scenario="idle", manual_clock=True)) as sim:
        sim.daemon.load(SMALL)
        await crashed(
            tmp_path / "state",
            sim,
            {"action": "load", "model": SMALL},
            state_word="running",
            before={"references": {}},
        )
        forge = await start_forge(sim)
        unfinished = await forge.http.get("/v1/operations/op", params={"wait": 0.3})
        assert unfinished.json()["state"] == "running"
        sim.clock.advance(60)
        assert (await forge.operation("op"))["state"] == "done"


async def test_while_the_daemon_is_down_the_operation_stays_open_until_it_can_be_looked_at(
    start_forge: StartForge, sim: Simulator, tmp_path: Path
) -> None:
    await crashed(
        tmp_path / "state",
        sim,
        {"action": "eject", "instance_id": "qwen/qwen3-8b"},
        state_word="running",
        before={"references": {sim.daemon.instance("qwen/qwen3-8b").reference: "qwen/qwen3-8b"}},
    )
    await sim.stop()
    forge = await start_forge(sim)
    waiting = (await forge.http.get("/v1/operations/op", params={"wait": 0.3})).json()
    assert waiting["state"] == "running"
    assert "waiting for the daemon" in waiting["phase"]
    sim.daemon.unload("qwen/qwen3-8b")
    await sim.start()
    assert (await forge.operation("op"))["state"] == "done"


async def test_a_kill_between_two_writes_never_leaves_half_a_transaction(tmp_path: Path) -> None:
    """Hammer the audit from another process, kill it, and look: rows and intents agree, whatever the moment."""
    script = """
import asyncio, sys
from pathlib import Path
from actions.store.audit import Audit
from actions.domain.actor import LOOPBACK
from actions.domain.command import Load
from actions.store.operations import Operations
from actions.store.database import Storage
async def main():
    storage = await Storage.open(Path(sys.argv[1]))
    operations = Operations(storage, Audit(storage))
    print("ready", flush=True)
    while True:
        await operations.begin(LOOPBACK, Load(daemon="box", model="m"), key=None, rule="allowed")
asyncio.run(main())
"""
    for seed in range(3):
        async with running(script, str(tmp_path)) as (process, _):
            await asyncio.sleep(random.Random(seed).uniform(0.01, 0.2))
            await kill(process)
        operations = rows(tmp_path, "SELECT id FROM operations ORDER BY rowid")
        intents = rows(tmp_path, "SELECT operation FROM audit WHERE kind = 'intent' ORDER BY seq")
        assert operations == intents
        storage = await Storage.open(tmp_path)
        assert await Audit(storage).verify() is not None
        await storage.close()
