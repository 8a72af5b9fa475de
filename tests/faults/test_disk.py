"""The disk under the real actions service fails: nothing is done unrecorded, and what was recorded stays true."""

import resource
import sqlite3
from pathlib import Path

import pytest

from actions.store.audit import Audit
from actions.store.database import FILE_NAME, Storage
from llmster_sim.server import SimConfig, Simulator
from tests.actions.conftest import SMALL, loaded
from tests.daemonpulse.test_cli import daemonpulse
from tests.faults.conftest import ActionsProcess, StartActions, operator

pytestmark = pytest.mark.timeout(300)  # several processes, one after the other


async def load(service: ActionsProcess, name: str) -> int:
    """Load an instance of this name and give the status."""
    return (await service.post("models/load", model=SMALL, instance_id=name, wait=20)).status_code


async def is_writable(service: ActionsProcess) -> bool:
    return "daemonpulse_audit_writable 1.0" in (await service.http.get("/metrics")).text


async def verify(state: Path) -> None:
    """Verify the chain, and that each intent has one outcome."""
    storage = await Storage.open(state)
    try:
        assert await Audit(storage).verify() is not None
        rows = await storage.read(
            lambda db: [
                [
                    row["operation"]
                    for row in db.execute("SELECT operation FROM audit WHERE kind = ?", (kind,))
                ]
                for kind in ("intent", "outcome")
            ]
        )
    finally:
        await storage.close()
    assert rows[0]
    assert sorted(rows[0]) == sorted(rows[1])


async def test_a_full_disk_stops_every_action_and_room_lets_them_go_on(
    run_actions: StartActions, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    token = await operator(state)
    async with Simulator(SimConfig(scenario="idle", speed=50.0)) as sim:
        service = await run_actions(sim.url, state, token)
        assert await load(service, "a") == 200
        # No file of it may grow: what a disk without room does, without having to fill one.
        resource.prlimit(service.program.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        before = dict(sim.calls)
        assert await load(service, "b") == 503
        assert not await is_writable(service)
        assert (await service.http.get("/v1/daemons")).status_code == 200, "looking needs no room"
        assert sim.calls["llm", "loadModel"] == before["llm", "loadModel"]
        assert "b" not in loaded(sim)
        resource.prlimit(
            service.program.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        )
        assert await load(service, "b") == 200
        assert await is_writable(service)
        assert await service.program.terminate() == 0
    await verify(state)


async def test_a_database_another_process_holds_is_waited_for_given_up_and_used_again(
    run_actions: StartActions, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    token = await operator(state)
    async with Simulator(SimConfig(scenario="idle", speed=50.0)) as sim:
        service = await run_actions(sim.url, state, token)
        other = sqlite3.connect(state / FILE_NAME, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            assert await load(service, "a") == 503
            assert sim.calls["llm", "loadModel"] == 0
            other.execute("ROLLBACK")
        finally:
            other.close()
        assert await load(service, "a") == 200
        assert await service.program.terminate() == 0
    await verify(state)


async def test_a_damaged_database_is_refused_in_one_line_and_never_acted_upon(
    run_actions: StartActions, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    token = await operator(state)
    async with Simulator(SimConfig(scenario="idle", speed=50.0)) as sim:
        service = await run_actions(sim.url, state, token)
        assert await load(service, "a") == 200
        assert await service.program.terminate() == 0
        calls = sim.calls["llm", "loadModel"]
        sound = (state / FILE_NAME).read_bytes()
        head = 4096  # every page but the first; what is no database at all has a test of its own
        (state / FILE_NAME).write_bytes(sound[:head] + b"\xa5" * (len(sound) - head))
        served = daemonpulse("actions", "serve", "--listen", "127.0.0.1:0", "--state", str(state))
        assert served.returncode == 2, served.stderr
        [line] = served.stderr.splitlines()
        assert str(state) in line
        verified = daemonpulse("actions", "audit", "verify", "--state", str(state))
        assert verified.returncode != 0
        assert "Traceback" not in verified.stderr
        assert sim.calls["llm", "loadModel"] == calls

        (state / FILE_NAME).write_bytes(sound)
        service = await run_actions(sim.url, state, token)
        assert await load(service, "b") == 200
        assert await service.program.terminate() == 0
    await verify(state)
