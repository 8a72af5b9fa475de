"""The audit proves itself: whatever is changed, removed, put in or cut off afterwards shows."""

import sqlite3

import pytest

from actions.domain.actor import LOOPBACK, Actor, Scope
from actions.store.audit import Audit, AuditBroken, Entry, Head
from actions.store.database import Storage

ALICE = Actor("token:ops", Scope.OPERATE, token_id="abcdefgh", person="alice", address="10.0.0.5")


@pytest.fixture
def audit(storage: Storage) -> Audit:
    return Audit(storage, clock_ms=lambda: 1_000)


async def fill(audit: Audit, count: int = 3) -> list[Entry]:
    return [
        await audit.record(
            "intent", actor=ALICE, action="load", subject=f"m{number}", operation=f"op{number}"
        )
        for number in range(count)
    ]


def tamper(storage: Storage, *statements: str) -> None:
    """Do what somebody with the file could do, and put the triggers back."""
    with sqlite3.connect(storage.path) as db:
        triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            db.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            db.execute(statement)
        for _, sql in triggers:
            db.execute(sql)
    db.close()


async def test_an_entry_says_who_what_and_when(audit: Audit) -> None:
    await audit.record("denied", actor=ALICE, action="load", subject="m", detail={"rule": "scope"})
    (entry,) = await audit.read()
    assert (entry.seq, entry.kind, entry.at_ms, entry.actor, entry.person) == (
        1,
        "denied",
        1_000,
        "token:ops",
        "alice",
    )
    assert (entry.token_id, entry.address, entry.detail) == ("abcdefgh", "10.0.0.5", {"rule": "scope"})


async def test_an_untouched_chain_verifies_up_to_its_head(audit: Audit) -> None:
    assert await audit.verify() is None
    entries = await fill(audit)
    assert await audit.verify() == Head(3, entries[-1].hash)


async def test_entries_can_neither_be_changed_nor_deleted_by_accident(storage: Storage, audit: Audit) -> None:
    await fill(audit)
    for statement in ("UPDATE audit SET subject = 'x' WHERE seq = 2", "DELETE FROM audit WHERE seq = 3"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            await storage.write(lambda db, text=statement: db.execute(text))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("statement", "seq", "what"),
    [
        ("UPDATE audit SET person = 'bob' WHERE seq = 2", 2, "was changed"),
        ("UPDATE audit SET detail = '{\"force\":true}' WHERE seq = 1", 1, "was changed"),
        ("UPDATE audit SET at_ms = 1 WHERE seq = 3", 3, "was changed"),
        ("DELETE FROM audit WHERE seq = 2", 2, "is missing"),
        ("DELETE FROM audit WHERE seq = 1", 1, "is missing"),
        ("UPDATE audit SET seq = seq + 10 WHERE seq = 3", 3, "is missing"),
        ("UPDATE audit SET hash = 'f' || hash WHERE seq = 2", 2, "was changed"),
        ("UPDATE audit SET previous = 'ffff' WHERE seq = 2", 2, "does not follow"),
    ],
)
async def test_tampering_is_found_where_it_happened(
    storage: Storage, audit: Audit, statement: str, seq: int, what: str
) -> None:
    await fill(audit)
    tamper(storage, statement)
    with pytest.raises(AuditBroken, match=what) as broken:
        await audit.verify()
    assert broken.value.seq == seq


async def test_rows_cut_off_the_end_show_against_a_head_noted_earlier(storage: Storage, audit: Audit) -> None:
    await fill(audit)
    noted = await audit.verify()
    await fill(audit, 1)
    assert (await audit.verify(expected=noted)) != noted
    tamper(storage, "DELETE FROM audit WHERE seq >= 3")
    await audit.verify()
    with pytest.raises(AuditBroken, match="cut off") as broken:
        await audit.verify(expected=noted)
    assert broken.value.seq == 3


async def test_an_append_is_rolled_back_with_the_transaction_it_belongs_to(
    storage: Storage, audit: Audit
) -> None:
    def half(db: sqlite3.Connection) -> None:
        audit.append(db, "intent", actor=LOOPBACK, action="load", subject="m")
        raise LookupError

    with pytest.raises(LookupError):
        await storage.write(half)
    assert await audit.read() == ()


async def test_sinks_hear_of_committed_entries_only(audit: Audit) -> None:
    heard: list[Entry] = []
    audit.sinks.append(heard.append)
    written = await fill(audit, 2)
    assert heard == written


async def test_whoever_asks_for_what_came_since_misses_nothing(audit: Audit) -> None:
    await fill(audit, 5)
    assert [entry.seq for entry in await audit.read(limit=2)] == [5, 4]
    assert [entry.seq for entry in await audit.read(since=0, limit=2)] == [1, 2]
    assert [entry.seq for entry in await audit.read(since=2, limit=2)] == [3, 4]
    assert [entry.seq for entry in await audit.read(since=4, limit=2)] == [5]


async def test_two_processes_that_append_share_one_chain(storage: Storage, audit: Audit) -> None:
    other = await Storage.open(storage.path.parent)
    try:
        for number in range(4):
            await Audit(other if number % 2 else storage).record(
                "event", actor=LOOPBACK, action="look", subject=str(number)
            )
        head = await audit.verify()
    finally:
        await other.close()
    assert head is not None
    assert head.seq == 4
