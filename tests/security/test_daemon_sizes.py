"""A daemon chooses names, references and errors of any length: what is recorded and answered has a size."""

import dataclasses
import sqlite3
from typing import Any

from llmster_sim import errors
from llmster_sim.server import Simulator
from tests.actions.conftest import SMALL, Forge, forge, sim, start_forge

__all__ = ["forge", "sim", "start_forge"]

HUGE = "x" * 1_000_000
MOST_BYTES = 150_000


def largest(forge: Forge) -> int:
    """Measure the largest value of any row."""
    db = sqlite3.connect(forge.parts.service.storage.path)
    try:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return max(
            (
                len(str(value))
                for table in tables
                for row in db.execute(f"SELECT * FROM {table}")  # noqa: S608 - of the schema
                for value in row
            ),
            default=0,
        )
    finally:
        db.close()


async def test_errors_of_a_daemon_have_a_size(forge: Forge, sim: Simulator) -> None:
    huge = errors.DaemonError(HUGE, cause=HUGE, suggestion=HUGE)
    for target, path, query in (
        ("llm.loadModel", "models/load", {"model": SMALL}),
        ("system.listDownloadedModels", "models/load", {"model": "not/here"}),
        ("llm.listLoaded", "models/eject", {"instance_id": "x"}),
        ("llm.unloadModel", "models/eject", {"instance_id": "qwen/qwen3-8b"}),
    ):
        sim.faults.fail(target, error=huge)
        refused = await forge.http.post(forge.path(path), params={"wait": "20", **query})
        sim.faults.clear()
        assert refused.status_code == 409, refused.text[:200]
        assert len(refused.content) < MOST_BYTES, target
    assert largest(forge) < MOST_BYTES


async def test_names_and_references_of_a_daemon_have_a_size(forge: Forge, sim: Simulator) -> None:
    model = dataclasses.replace(sim.daemon.models[0], path=HUGE)
    sim.daemon.models = (
        *sim.daemon.models,
        *(dataclasses.replace(model, key=f"{HUGE}{n}") for n in range(10)),
    )

    seen: list[dict[str, Any]] = []

    def longer(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
        seen.extend(listed)
        names = [f"{HUGE}{number}" for number in range(5)]
        return [*listed, *({**seen[0], "identifier": name, "instanceReference": name} for name in names)]

    unknown = await forge.load("not/here")
    assert (unknown.status_code, len(unknown.content) < MOST_BYTES) == (404, True)
    sim.faults.alter("llm.listLoaded", longer)
    assert (await forge.load()).status_code == 200
    absent = await forge.post("models/eject", instance_id="not-here")
    assert (absent.status_code, len(absent.content) < MOST_BYTES) == (404, True)
    switched = await forge.post("models/eject-all", wait=20)
    assert (switched.status_code, len(switched.json()["still_loaded"])) == (409, 5)
    assert len(switched.content) < MOST_BYTES
    assert largest(forge) < MOST_BYTES
    assert max(map(len, (await forge.http.get("/metrics")).text.splitlines())) < 1_000
