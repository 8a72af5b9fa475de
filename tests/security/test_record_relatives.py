"""Somebody puts a backup back, launders a change, plants a trigger or kills a rotation: the record stays true."""

import asyncio
import functools
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from actions.domain.actor import LOOPBACK
from actions.store.audit import Audit, AuditBroken
from actions.store.audit_archive import FOLDER, name_of, prune, verify_all
from actions.store.audit_rotation import Rotation
from actions.store.database import FILE_NAME, Storage, StorageFailed
from llmster_sim.server import Simulator
from tests.actions.conftest import Forge, forge, loaded, make_token, sim, start_forge, storage
from tests.actions.store.test_audit import ALICE, fill
from tests.security.test_record import DAY_MS, cli

__all__ = ["forge", "sim", "start_forge", "storage"]


# Content --------------------------------------------------------------------------------------------------------------


def copy(source: Path, target: Path) -> None:
    """Copy a database as `sqlite3 SOURCE '.backup TARGET'` does; an open target stays the same file."""
    with sqlite3.connect(source) as one, sqlite3.connect(target) as other:
        one.backup(other)
    one.close()
    other.close()


async def test_a_backup_that_is_put_back_under_the_service_lets_no_revoked_token_in(
    forge: Forge, sim: Simulator, tmp_path: Path
) -> None:
    await forge.load()
    storage, gone = forge.parts.service.storage, await forge.token("operate", name="gone")
    revoked = {"Authorization": f"Bearer {gone}"}
    copy(storage.path, tmp_path / "backup")
    await storage.write(lambda db: forge.parts.tokens.revoke(db, "gone"))
    assert (await forge.http.get("/v1/daemons", headers=revoked)).status_code == 401
    copy(tmp_path / "backup", storage.path)
    for answer in (
        await forge.http.get("/v1/daemons", headers=revoked),
        await forge.post("models/eject-all", headers=revoked),
        await forge.http.get("/v1/audit"),
    ):
        assert answer.status_code == 503, "read from the backup"
    assert await forge.metric("daemonpulse_audit_writable") == 0
    assert loaded(sim)


def by_another_program(storage: Storage, *statements: str) -> None:
    with sqlite3.connect(storage.path) as db:
        for statement in statements:
            db.execute(statement)
    db.close()


OPEN = (
    "INSERT INTO operations (id, daemon, action, subject, state, actor, owner, digest, request, before, created_ms)"
    " VALUES ('open', 'box', 'load', 'm', 'pending', 'me', 'me', '', '{}', '{}', 1)"
)


@pytest.mark.parametrize(
    ("foreign", "own"),
    [
        ("UPDATE tokens SET scope = 'admin'", "UPDATE tokens SET expires_ms = 99999999999999"),
        ("UPDATE tokens SET revoked_ms = NULL", "UPDATE tokens SET expires_ms = 99999999999999"),
        (
            "UPDATE mcp_rules SET decision = 'allow'",
            "INSERT OR REPLACE INTO mcp_rules VALUES ('s', 't', 'ask', 'me', 2)",
        ),
        ("DELETE FROM mcp_rules", "INSERT OR REPLACE INTO mcp_rules VALUES ('s', 't', 'ask', 'me', 2)"),
        (
            "INSERT INTO mcp_rules VALUES ('s', 'new', 'allow', 'x', 1)",
            "DELETE FROM mcp_rules WHERE tool = 'new'",
        ),
        ("INSERT INTO reaper VALUES ('box', 1.0)", "UPDATE reaper SET idle_s = 2.0"),
        ("UPDATE operations SET subject = 'x'", "UPDATE operations SET state = 'done', finished_ms = 2"),
    ],
)
async def test_a_row_that_another_program_changed_shows_also_after_this_one_changed_it_again(
    storage: Storage, foreign: str, own: str
) -> None:
    await make_token(storage, "read", name="gone")
    await storage.write(lambda db: db.execute("UPDATE tokens SET revoked_ms = 5"))
    await storage.write(lambda db: db.execute("INSERT INTO mcp_rules VALUES ('s', 't', 'deny', 'me', 1)"))
    await storage.write(lambda db: db.execute(OPEN))
    assert await Audit(storage).verify() is not None
    by_another_program(storage, foreign)
    await storage.write(lambda db: db.execute(own))
    with pytest.raises(AuditBroken, match="changed by another program before this row"):
        await Audit(storage).verify()


@pytest.mark.parametrize(
    ("foreign", "own"),
    [
        ("UPDATE tokens SET revoked_ms = NULL", "UPDATE tokens SET revoked_ms = 9"),
        ("UPDATE mcp_rules SET decision = 'allow'", "UPDATE mcp_rules SET decision = 'deny'"),
        ("DELETE FROM mcp_rules", "INSERT INTO mcp_rules VALUES ('s', 't', 'ask', 'me', 2)"),
        (
            "INSERT INTO mcp_rules VALUES ('s', 'new', 'allow', 'x', 1)",
            "DELETE FROM mcp_rules WHERE tool = 'new'",
        ),
        ("UPDATE operations SET subject = 'x'", "UPDATE operations SET state = 'done', finished_ms = 2"),
    ],
)
@pytest.mark.parametrize("archives", [1, 2])
async def test_so_it_does_when_what_the_row_was_before_is_archived(
    storage: Storage, tmp_path: Path, foreign: str, own: str, archives: int
) -> None:
    """With the archives at hand; without them it is said that this was not compared."""
    audit = Audit(storage)
    await make_token(storage, "read", name="gone")
    await storage.write(lambda db: db.execute("UPDATE tokens SET revoked_ms = 5"))
    await storage.write(lambda db: db.execute("INSERT INTO mcp_rules VALUES ('s', 't', 'deny', 'me', 1)"))
    await storage.write(lambda db: db.execute(OPEN))
    first = await storage.read(lambda db: db.execute("SELECT max(seq) FROM audit").fetchone()[0])
    by_another_program(storage, foreign)
    await storage.write(lambda db: db.execute(own))
    files = [tmp_path / f"{number}.jsonl.gz" for number in range(archives)]
    for file in files:
        await audit.record("event", actor=LOOPBACK, action="look", subject=file.name)
        assert await prune(
            storage, audit, before_ms=2**50, now_ms=2**50, archive=file, actor=LOOPBACK, most_rows=first
        )
        first = 1
    with pytest.raises(AuditBroken, match="changed by another program before this row"):
        await verify_all(storage, files)
    head = await audit.verify()
    without = await verify_all(storage, files[1:], expected=head)
    assert without.is_vouched
    assert without.uncompared > 0


def decide(decision: str, at_ms: int, db: sqlite3.Connection) -> None:
    db.execute("INSERT OR REPLACE INTO mcp_rules VALUES ('s', 't', ?, 'me', ?)", (decision, at_ms))


async def test_an_honest_history_holds_over_its_archives(storage: Storage, tmp_path: Path) -> None:
    audit = Audit(storage)
    files = []
    for number, decision in enumerate(("deny", "allow", "ask", "deny")):
        await storage.write(functools.partial(decide, decision, number))
        await storage.write(lambda db: db.execute("DELETE FROM mcp_rules WHERE tool = 'u'"))
        await storage.write(lambda db: db.execute("INSERT INTO mcp_rules VALUES ('s', 'u', 'ask', 'me', 1)"))
        files.append(tmp_path / f"{number}.jsonl")
        assert await prune(
            storage, audit, before_ms=2**50, now_ms=2**50, archive=files[-1], actor=LOOPBACK, most_rows=2
        )
    report = await verify_all(storage, files)
    assert (len(report.archives), report.missing_through, report.uncompared) == (4, 0, 0)


async def test_a_row_that_another_program_deleted_shows_also_after_its_record_was_archived(
    storage: Storage, tmp_path: Path
) -> None:
    audit = Audit(storage)
    await storage.write(lambda db: db.execute("INSERT INTO mcp_rules VALUES ('s', 't', 'deny', 'me', 1)"))
    by_another_program(storage, "DELETE FROM mcp_rules")
    await audit.record("event", actor=LOOPBACK, action="look", subject="x")
    assert await prune(
        storage, audit, before_ms=2**50, now_ms=2**50, archive=tmp_path / "old.jsonl", actor=LOOPBACK
    )
    with pytest.raises(AuditBroken, match="mcp_rules row s/t was deleted by another program"):
        await audit.verify()


async def test_the_policy_that_was_kept_is_covered(storage: Storage) -> None:
    await storage.write(lambda db: db.execute("INSERT INTO mcp_policy VALUES (1, 'a', '{}', 1)"))
    assert await Audit(storage).verify() is not None
    by_another_program(storage, "UPDATE mcp_policy SET document = '{\"rules\": []}'")
    with pytest.raises(AuditBroken, match="mcp_policy row 1 was changed"):
        await Audit(storage).verify()


@pytest.mark.parametrize(
    "planted",
    [
        "CREATE TRIGGER helper AFTER INSERT ON audit BEGIN UPDATE tokens SET scope = 'admin'; END",
        "CREATE TRIGGER helper BEFORE UPDATE ON tokens BEGIN SELECT RAISE(IGNORE); END",
        (
            "DROP TRIGGER audit_rows_stay; CREATE TRIGGER audit_rows_stay AFTER INSERT ON operations"
            " BEGIN UPDATE tokens SET scope = 'admin'; END"
        ),
    ],
)
async def test_a_trigger_that_was_planted_while_the_service_was_away_does_not_run(
    tmp_path: Path, planted: str
) -> None:
    storage = await Storage.open(tmp_path)
    await make_token(storage, "read", name="reader")
    await storage.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.executescript(planted)
    db.close()
    with pytest.raises(StorageFailed, match="trigger or view of another program"):
        await Storage.open(tmp_path)
    code, printed = await cli("token", "list", state=tmp_path)
    assert (code, printed.count("\n")) == (2, 1)


# Files ----------------------------------------------------------------------------------------------------------------


def link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def hard_link(path: Path, target: Path) -> None:
    path.hardlink_to(target)


def dangling(path: Path, target: Path) -> None:
    path.symlink_to(target.with_name("nothing"))


@pytest.mark.parametrize("make", [link, hard_link, dangling])
async def test_a_database_of_two_names_is_refused_in_one_line_and_nothing_is_made(
    tmp_path: Path, make: Callable[[Path, Path], None]
) -> None:
    real, state = tmp_path / "real", tmp_path / "state"
    await (await Storage.open(real)).close()
    state.mkdir(mode=0o700)
    make(state / FILE_NAME, real / FILE_NAME)
    code, printed = await cli("token", "new", "--name", "me", state=state)
    assert (code, printed.count("\n")) == (2, 1)
    assert "plain file" in printed or "another name" in printed
    assert [file.name for folder in (state, real) for file in folder.iterdir()] == [FILE_NAME, FILE_NAME]


def pipe(file: Path) -> None:
    os.mkfifo(file)


@pytest.mark.parametrize(
    "make", [pipe, Path.mkdir, lambda file: file.symlink_to("/dev/zero")], ids=["pipe", "folder", "device"]
)
async def test_what_lies_among_the_archives_and_is_none_is_an_error_and_not_waited_for(
    storage: Storage, make: Callable[[Path], None]
) -> None:
    await fill(Audit(storage), 3)
    (storage.path.parent / FOLDER).mkdir()
    make(storage.path.parent / FOLDER / "audit.jsonl.gz")
    async with asyncio.timeout(30):
        code, printed = await cli("audit", "verify", state=storage.path.parent)
    assert (code, printed.count("\n")) == (2, 1)


# Rotation -------------------------------------------------------------------------------------------------------------


async def filled(storage: Storage, rows: int, *, now_ms: int) -> tuple[Audit, Rotation]:
    """An audit with rows of one time, and its rotation by size a moment later."""
    audit = Audit(storage, clock_ms=lambda: now_ms)
    for number in range(rows):
        await audit.record("event", actor=ALICE, action="look", subject=str(number), detail={"x": "y" * 100})
    return audit, Rotation(storage, audit, max_bytes=1000, max_days=0, clock_ms=lambda: now_ms + 1)


KILLED = """
import asyncio, os, pathlib, signal, sys
from actions.store import audit_archive
from actions.store.audit import Audit
from actions.store.audit_rotation import Rotation
from actions.store.database import Storage

def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    storage = await Storage.open(pathlib.Path(sys.argv[1]))
    setattr(audit_archive, sys.argv[2], killed)
    await Rotation(storage, Audit(storage), max_bytes=1000, max_days=0).rotate()

asyncio.run(main())
"""


@pytest.mark.parametrize("moment", ["follow", "_require_equal", "_cut"])
async def test_a_rotation_killed_at_any_moment_leaves_an_audit_that_verifies_and_the_next_ends_it(
    tmp_path: Path, moment: str
) -> None:
    now_ms = time.time_ns() // 1_000_000
    storage = await Storage.open(tmp_path)
    await filled(storage, 150, now_ms=now_ms)
    await storage.close()
    run = [sys.executable, "-c", KILLED, str(tmp_path), moment]
    ended = await asyncio.to_thread(subprocess.run, run, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert [file.name for file in (tmp_path / FOLDER).iterdir()] == [name_of(1)]
    assert (await cli("audit", "verify", state=tmp_path))[0] == 0
    storage = await Storage.open(tmp_path)
    try:
        await fill(Audit(storage), 30)
        assert await Rotation(storage, Audit(storage), max_bytes=1000, max_days=0).rotate()
        report = await verify_all(storage, sorted((tmp_path / FOLDER).iterdir()))
    finally:
        await storage.close()
    assert (len(report.archives), report.missing_through) == (1, 0)
    assert (await cli("audit", "verify", state=tmp_path))[0] == 0


async def test_the_name_of_an_archive_is_on_disk_before_its_rows_go(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file whose content is synced and whose folder is not may be gone after a loss of power."""
    _, rotation = await filled(storage, 150, now_ms=400 * DAY_MS)
    synced: list[Path] = []
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    assert await rotation.rotate()
    assert synced == [rotation.folder / name_of(1), rotation.folder]


async def test_a_clock_that_was_once_years_ahead_does_not_stop_the_rotation(storage: Storage) -> None:
    audit, _ = await filled(storage, 60, now_ms=400 * DAY_MS)
    await filled(storage, 1, now_ms=40_000 * DAY_MS)
    _, by_size = await filled(storage, 240, now_ms=401 * DAY_MS)
    while await by_size.rotate():
        pass
    (first,) = await audit.read(since=0, limit=1)
    assert first.seq > 100, "rows behind the one of a later day have gone"
    await filled(storage, 1, now_ms=40_000 * DAY_MS)
    _, today = await filled(storage, 1, now_ms=900 * DAY_MS)
    by_age = Rotation(storage, audit, max_bytes=0, max_days=100, clock_ms=lambda: 900 * DAY_MS)
    while await by_age.rotate():
        pass
    (first,) = await audit.read(since=0, limit=1)
    assert first.at_ms == 900 * DAY_MS
    assert (await verify_all(storage, sorted(today.folder.iterdir()))).missing_through == 0


async def test_a_clock_that_is_years_behind_archives_nothing_by_age(storage: Storage) -> None:
    audit, _ = await filled(storage, 20, now_ms=20_000 * DAY_MS)
    await filled(storage, 1, now_ms=1 * DAY_MS)
    by_age = Rotation(storage, audit, max_bytes=0, max_days=100, clock_ms=lambda: 1 * DAY_MS)
    assert not await by_age.rotate()


async def test_a_folder_of_archives_that_everybody_may_write_to_is_not_used(storage: Storage) -> None:
    audit, rotation = await filled(storage, 150, now_ms=400 * DAY_MS)
    rotation.folder.mkdir()
    rotation.folder.chmod(0o777)
    with pytest.raises(PermissionError, match="chmod 700"):
        await rotation.rotate()
    assert (await audit.read(since=0, limit=1))[0].seq == 1
