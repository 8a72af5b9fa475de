"""The beginning of the audit can go, into a file that proves itself, and what stays proves what went."""

import json
import sqlite3
import stat
from pathlib import Path

import pytest

from actions.store.audit import Audit, AuditBroken
from actions.store.audit_archive import prune, verify_all
from actions.store.chain import PRUNE
from actions.store.database import Storage
from tests.actions.store.test_audit import ALICE, tamper


@pytest.fixture
async def audit(storage: Storage) -> Audit:
    """Ten rows, one each second, of which the seventh and eighth are a command."""
    now = 0

    def clock() -> int:
        nonlocal now
        now += 1_000
        return now

    made = Audit(storage, clock_ms=clock)
    for number in range(1, 11):
        kind, operation = {7: ("intent", "op"), 8: ("outcome", "op")}.get(number, ("event", None))
        await made.record(kind, actor=ALICE, action="look", subject=str(number), operation=operation)  # type: ignore[arg-type]
    return made


async def test_old_rows_move_into_a_file_and_both_can_be_verified(
    storage: Storage, audit: Audit, tmp_path: Path
) -> None:
    file = tmp_path / "old.jsonl"
    before = await audit.read(since=0)
    told: list[str] = []
    audit.sinks.append(lambda entry: told.append(entry.action))
    pruned = await prune(storage, audit, before_ms=5_500, now_ms=99_999, archive=file, actor=ALICE)
    assert pruned is not None
    assert (pruned.rows, pruned.through.seq, pruned.through.hash) == (5, 5, before[4].hash)
    kept = await audit.read(since=0)
    assert [entry.seq for entry in kept] == [6, 7, 8, 9, 10, 11]
    assert kept[:-1] == before[5:]
    told_of_it = {"seq": 5, "hash": before[4].hash, "rows": 5, "archive": "old.jsonl"}
    assert (kept[-1].action, kept[-1].detail) == (PRUNE, told_of_it)
    assert told == [PRUNE]
    head = await audit.verify()
    assert head is not None
    assert head.seq == 11
    report = await verify_all(storage, [file])
    assert [(one.after.seq, one.through) for one in report.archives] == [(0, pruned.through)]
    assert report.missing_through == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [json.loads(line)["subject"] for line in file.read_text().splitlines()] == list("12345")


async def test_it_can_be_done_again_and_the_head_noted_before_still_counts(
    storage: Storage, audit: Audit, tmp_path: Path
) -> None:
    noted = await audit.verify()
    assert noted is not None
    for number, before_ms in enumerate((3_500, 6_500)):
        assert await prune(
            storage, audit, before_ms=before_ms, now_ms=99_999, archive=tmp_path / str(number), actor=ALICE
        )
    assert await audit.verify(expected=noted)
    files = [tmp_path / "0", tmp_path / "1"]
    assert (await verify_all(storage, files)).missing_through == 0
    assert (await verify_all(storage, files[1:])).missing_through == 3
    first = json.loads((tmp_path / "0").read_text().splitlines()[-1])
    with pytest.raises(AuditBroken, match="give the archive"):
        await audit.verify(expected=type(noted)(first["seq"] - 1, first["previous"]))
    await audit.record("event", actor=ALICE, action="look", subject="after")
    assert await audit.verify()


@pytest.mark.parametrize(("before_ms", "last"), [(500, 0), (1_000, 0), (1_001, 1), (7_500, 7), (99_999, 9)])
async def test_the_last_row_and_what_is_young_stay(
    storage: Storage, audit: Audit, tmp_path: Path, before_ms: int, last: int
) -> None:
    pruned = await prune(
        storage, audit, before_ms=before_ms, now_ms=99_999, archive=tmp_path / "old", actor=ALICE
    )
    assert (pruned.through.seq if pruned else 0) == last
    assert (tmp_path / "old").exists() is (last > 0)
    assert await audit.verify()


async def test_a_command_that_has_no_outcome_stays_with_all_that_follows(
    storage: Storage, audit: Audit, tmp_path: Path
) -> None:
    await audit.record("intent", actor=ALICE, action="load", subject="m", operation="open")
    await audit.record("event", actor=ALICE, action="look", subject="later")
    pruned = await prune(
        storage, audit, before_ms=99_999, now_ms=99_999, archive=tmp_path / "old", actor=ALICE
    )
    assert pruned is not None
    assert pruned.through.seq == 10


async def test_a_cut_that_no_row_signs_off_is_found(storage: Storage, audit: Audit, tmp_path: Path) -> None:
    await prune(storage, audit, before_ms=5_500, now_ms=99_999, archive=tmp_path / "old", actor=ALICE)
    tamper(storage, "DELETE FROM audit WHERE seq = 6")
    with pytest.raises(AuditBroken, match="is missing"):
        await audit.verify()


async def test_a_broken_chain_is_left_as_it_is(storage: Storage, audit: Audit, tmp_path: Path) -> None:
    tamper(storage, "UPDATE audit SET subject = 'x' WHERE seq = 2")
    with pytest.raises(AuditBroken, match="was changed"):
        await prune(storage, audit, before_ms=5_500, now_ms=99_999, archive=tmp_path / "old", actor=ALICE)
    assert not (tmp_path / "old").exists()
    assert len(await audit.read(limit=100)) == 10


async def test_no_file_is_overwritten_or_reached_through_a_link(
    storage: Storage, audit: Audit, tmp_path: Path
) -> None:
    (tmp_path / "there").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("there", "link", "no/folder"):
        with pytest.raises(OSError, match=r"exists|No such file"):
            await prune(storage, audit, before_ms=5_500, now_ms=99_999, archive=tmp_path / name, actor=ALICE)
    assert (tmp_path / "there").read_text() == "precious"
    assert not (tmp_path / "elsewhere").exists()
    assert len(await audit.read(limit=100)) == 10


async def test_rows_cannot_be_deleted_after_a_cut_either(
    storage: Storage, audit: Audit, tmp_path: Path
) -> None:
    await prune(storage, audit, before_ms=5_500, now_ms=99_999, archive=tmp_path / "old", actor=ALICE)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        await storage.write(lambda db: db.execute("DELETE FROM audit WHERE seq = 6"))


async def test_an_archive_that_was_changed_or_is_none_is_found(
    storage: Storage, audit: Audit, tmp_path: Path
) -> None:
    file = tmp_path / "old"
    await prune(storage, audit, before_ms=5_500, now_ms=99_999, archive=file, actor=ALICE)
    lines = file.read_text().splitlines(keepends=True)
    for text, what in (
        ("".join(lines).replace("alice", "bob"), "was changed"),
        ("".join(lines[:-1]), "no row of the audit says"),
        ("".join(lines[:2] + lines[3:]), "is missing"),
        ("", "is not an archive"),
        ("{}", "is not an archive"),
        ("[" * 100_000, "is not an archive"),
    ):
        file.write_text(text)
        with pytest.raises(AuditBroken, match=what):
            await verify_all(storage, [file])
