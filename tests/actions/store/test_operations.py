"""Operations as rows: what finished long ago is forgotten, what is unfinished never."""

import time
from types import SimpleNamespace

import pytest

from actions.domain.actor import LOOPBACK
from actions.domain.command import EjectAll
from actions.domain.errors import Problem
from actions.store import operations as operations_module
from actions.store.audit import Audit
from actions.store.database import Storage
from actions.store.operations import KEPT_MS, Operation, Operations

NS_PER_MS = 1_000_000


async def begun(operations: Operations) -> Operation:
    operation, is_new = await operations.begin(LOOPBACK, EjectAll(daemon="box"), key=None, rule="test")
    assert is_new
    return operation


async def test_what_finished_a_month_ago_is_forgotten_with_the_next_operation(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    operations = Operations(storage, Audit(storage))
    finished, unfinished = await begun(operations), await begun(operations)
    await operations.finish(finished, "done", actor=LOOPBACK)
    await begun(operations)
    assert (await operations.get(finished.id)).is_finished
    later_ns = time.time_ns() + (KEPT_MS + 1_000) * NS_PER_MS
    clock = SimpleNamespace(time_ns=lambda: later_ns, monotonic=time.monotonic)
    monkeypatch.setattr(operations_module, "time", clock)
    await begun(operations)
    with pytest.raises(Problem):
        await operations.get(finished.id)
    left = {operation.id for operation in await Operations(storage, Audit(storage)).unfinished()}
    assert unfinished.id in left


async def test_a_stored_operation_of_another_version_costs_that_row_only(storage: Storage) -> None:
    operations = Operations(storage, Audit(storage))
    readable, odd = await begun(operations), await begun(operations)
    await storage.write(
        lambda db: db.execute(
            "UPDATE operations SET request = json_set(request, '$.action', 'newer') WHERE id = ?", (odd.id,)
        )
    )
    restarted = Operations(storage, Audit(storage))
    assert [one.id for one in await restarted.unfinished()] == [readable.id]
    found = {
        one["id"]: one for one in (one.to_json() for one in await restarted.recent(daemon=None, limit=9))
    }
    assert found[readable.id]["state"] == "pending"
    assert (found[odd.id]["state"], found[odd.id]["action"]) == ("failed", readable.command.ACTION)
    assert "another version" in found[odd.id]["problem"]["detail"]
    assert (await restarted.get(odd.id)).is_finished


@pytest.mark.parametrize(
    "change",
    [
        "json_set(request, '$.colour', 'red')",
        "'no JSON'",
        "'[1]'",
        "json_set(request, '$.context_length', 1)",
    ],
)
async def test_a_field_that_the_command_lacks_is_an_error_of_that_row(storage: Storage, change: str) -> None:
    operations = Operations(storage, Audit(storage))
    odd = await begun(operations)
    await storage.write(lambda db: db.execute(f"UPDATE operations SET request = {change}"))  # noqa: S608 - a constant
    restarted = Operations(storage, Audit(storage))
    assert await restarted.unfinished() == []
    found = (await restarted.get(odd.id)).to_json()
    assert "another version" in found["problem"]["detail"]
    assert found["parameters"].get("colour") == ("red" if "red" in change else None)


async def test_an_outcome_that_is_no_json_costs_that_outcome_only(storage: Storage) -> None:
    operations = Operations(storage, Audit(storage))
    odd = await begun(operations)
    await operations.finish(odd, "done", actor=LOOPBACK, result={"ejected": 1})
    await storage.write(lambda db: db.execute("UPDATE operations SET result = 'no JSON', before = '1'"))
    found = await Operations(storage, Audit(storage)).get(odd.id)
    assert (found.state, found.result, found.before) == ("done", None, {})


async def test_a_list_of_one_daemons_operations_costs_no_look_at_those_of_others(storage: Storage) -> None:
    await storage.write(
        lambda db: db.executemany(
            "INSERT INTO operations (id, daemon, action, subject, state, actor, owner, digest, request, before,"
            " created_ms) VALUES (?, 'box', 'load', 'm', 'pending', 'me', 'me', '', '{}', '{}', 1)",
            [(str(number),) for number in range(5_000)],
        )
    )
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    await storage.read_page(lambda db: db.set_progress_handler(step, 10))
    assert await Operations(storage, Audit(storage)).recent(daemon="another", limit=100) == []
    assert steps < 50
