"""Somebody can write the state folder: what they change, cut, swap or damage shows, and nothing untrue is served."""

import asyncio
import shutil
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from actions.cli.commands import actions
from actions.domain.actor import LOOPBACK
from actions.store import audit_rotation
from actions.store.audit import Audit, AuditBroken, Head
from actions.store.audit_archive import prune, verify_all
from actions.store.audit_rotation import Rotation
from actions.store.chain import PRUNE, append, fingerprint
from actions.store.database import FILE_NAME, Storage, StorageFailed
from llmster_sim.server import Simulator
from tests.actions.conftest import SMALL, Forge, StartForge, forge, sim, start_forge, storage
from tests.actions.store.test_audit import ALICE, fill, tamper

__all__ = ["forge", "sim", "start_forge", "storage"]

DAY_MS = 24 * 3600 * 1000


async def cli(*arguments: str, state: Path) -> tuple[int, str]:
    """Run a command of `daemonpulse actions` in this process; returns exit code and all that it printed."""
    ran = await asyncio.to_thread(CliRunner().invoke, actions, [*arguments, "--state", str(state)])
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    return ran.exit_code, ran.output


# The chain ------------------------------------------------------------------------------------------------------------


async def forged_cut(storage: Storage) -> None:
    """Delete rows 1 to 10 and sign that off with a row that fits the chain."""
    row = await storage.read(lambda db: db.execute("SELECT hash FROM audit WHERE seq = 10").fetchone())
    tamper(storage, "DELETE FROM audit WHERE seq <= 10")
    with sqlite3.connect(storage.path) as db:
        db.row_factory = sqlite3.Row
        detail = {"seq": 10, "hash": row["hash"], "rows": 10, "archive": "audit-000000000001.jsonl.gz"}
        append(db, "event", at_ms=1, actor=ALICE, action=PRUNE, subject="audit", detail=detail)
    db.close()


async def test_a_forged_cut_is_seen(storage: Storage) -> None:
    await fill(Audit(storage), 15)
    await forged_cut(storage)
    report = await verify_all(storage, [])
    assert (report.missing_through, report.is_vouched) == (10, False)
    code, printed = await cli("audit", "verify", state=storage.path.parent)
    assert code == 1
    assert "rows 1 to 10 are missing and nothing proves that they were archived" in printed
    assert "row 16" in printed, "the row that signs the cut is named"


async def test_a_head_noted_elsewhere_decides_about_a_forged_cut(storage: Storage) -> None:
    audit = Audit(storage)
    rows = await fill(audit, 15)
    await forged_cut(storage)
    with pytest.raises(AuditBroken, match="not in the database"):
        await verify_all(storage, [], expected=Head(4, rows[3].hash))
    within = await verify_all(storage, [], expected=Head(15, rows[14].hash))
    assert not within.is_vouched, "a head from before the cut says nothing about it"


async def test_a_real_cut_is_proven_by_its_archive_or_by_a_head_noted_after_it(
    storage: Storage, tmp_path: Path
) -> None:
    audit, archive = Audit(storage, clock_ms=lambda: 1_000), tmp_path / "old.jsonl.gz"
    for number in range(15):
        await audit.record("event", actor=ALICE, action="look", subject=str(number))
    assert await prune(
        storage, audit, before_ms=2_000, now_ms=2_000, archive=archive, actor=ALICE, most_rows=10
    )
    assert (await verify_all(storage, [])).missing_through == 10
    assert (await verify_all(storage, [archive])).missing_through == 0
    head = await audit.verify()
    assert head is not None
    assert head.hash is not None
    assert (await verify_all(storage, [], expected=head)).is_vouched
    noted = Head(head.seq, None, fingerprint(head.hash))
    assert (await verify_all(storage, [], expected=noted)).is_vouched, "as the metrics have it"
    with pytest.raises(AuditBroken, match="differs from the head"):
        await verify_all(storage, [archive], expected=Head(3, "0" * 64))


async def test_an_archive_that_belongs_elsewhere_proves_nothing(storage: Storage, tmp_path: Path) -> None:
    other = await Storage.open(tmp_path / "other")
    theirs = Audit(other, clock_ms=lambda: 1_000)
    await fill(theirs, 15)
    for number in range(15):
        await theirs.record("outcome", actor=ALICE, action="load", subject="m", operation=f"op{number}")
    archive = tmp_path / "theirs.jsonl"
    assert await prune(
        other, theirs, before_ms=2_000, now_ms=2_000, archive=archive, actor=ALICE, most_rows=10
    )
    await other.close()
    await fill(Audit(storage), 15)
    await forged_cut(storage)
    with pytest.raises(AuditBroken, match="no row of the audit says"):
        await verify_all(storage, [archive])


async def test_the_audit_rotates_by_size_and_age_and_stays_provable(storage: Storage) -> None:
    now_ms = 400 * DAY_MS
    audit = Audit(storage, clock_ms=lambda: now_ms)
    for number in range(120):
        now_ms += DAY_MS
        await audit.record("event", actor=ALICE, action="look", subject=str(number), detail={"x": "y" * 500})
    by_age = Rotation(storage, audit, max_bytes=0, max_days=100, clock_ms=lambda: now_ms)
    assert await by_age.rotate()
    assert not await by_age.rotate()
    by_size = Rotation(storage, audit, max_bytes=1000, max_days=0, clock_ms=lambda: now_ms)
    assert await by_size.rotate()
    assert not await by_size.rotate(), "with so few rows left the size is not the audit's"
    archives = sorted(by_age.folder.iterdir())
    assert len(archives) == 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in [*archives, by_age.folder]} == {0o600, 0o700}
    report = await verify_all(storage, archives)
    assert (report.missing_through, len(report.archives), len(report.cuts)) == (0, 2, 2)
    assert (await cli("audit", "verify", state=storage.path.parent))[0] == 0
    (first,) = await audit.read(since=0, limit=1)
    assert first.seq > 50


async def test_a_rotation_that_cannot_write_moves_nothing_and_goes_on_when_it_can(
    storage: Storage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_rotation, "CHECK_EVERY_S", 0.01)
    now_ms = 400 * DAY_MS
    audit = Audit(storage, clock_ms=lambda: now_ms)
    for number in range(120):
        await audit.record("event", actor=ALICE, action="look", subject=str(number))
    now_ms += 200 * DAY_MS
    await audit.record("event", actor=ALICE, action="look", subject="young")
    rotation = Rotation(storage, audit, max_bytes=0, max_days=100, clock_ms=lambda: now_ms)
    rotation.folder.write_text("a file where the folder of archives belongs")
    running = asyncio.create_task(rotation.run())
    try:
        async with asyncio.timeout(20):
            while caplog.messages.count("audit rotation failed, retrying") < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert (await audit.read(since=0, limit=1))[0].seq == 1, "nothing was moved"
            await audit.record("event", actor=ALICE, action="look", subject="meanwhile")
            rotation.folder.unlink()
            while (await audit.read(since=0, limit=1))[0].seq == 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
    report = await verify_all(storage, sorted(rotation.folder.iterdir()))
    assert (report.missing_through, len(report.cuts)) == (0, 1)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE tokens SET scope = 'admin'", "tokens row"),
        ("UPDATE tokens SET revoked_ms = NULL", "tokens row"),
        ("UPDATE mcp_rules SET decision = 'allow'", "mcp_rules row"),
        ("DELETE FROM mcp_rules", "mcp_rules row"),
        ("INSERT INTO mcp_rules VALUES ('s', 'other', 'allow', 'x', 1)", "mcp_rules row s/other"),
        ("UPDATE mcp_pins SET fingerprint = 'f'", "mcp_pins row"),
        ("UPDATE operations SET result = '{\"ok\": true}' WHERE finished_ms IS NOT NULL", "operations row"),
        ("UPDATE operations SET subject = 'x' WHERE finished_ms IS NULL", "operations row"),
        ("DELETE FROM operations", "operations row"),
        ("INSERT INTO reaper VALUES ('box', 1.0)", "reaper row box"),
    ],
)
async def test_a_token_gate_or_operation_changed_by_another_program_shows(
    forge: Forge, statement: str, named: str
) -> None:
    storage = forge.parts.service.storage
    await forge.token("read", name="gone")
    await storage.write(lambda db: forge.parts.tokens.revoke(db, "gone"))
    await storage.write(lambda db: db.execute("INSERT INTO mcp_rules VALUES ('s', 't', 'deny', 'me', 1)"))
    await storage.write(lambda db: db.execute("INSERT INTO mcp_pins VALUES ('s', 't', 'abc', 1)"))
    assert (await forge.load()).status_code == 200
    await storage.write(
        lambda db: db.execute(
            "INSERT INTO operations (id, daemon, action, subject, state, actor, owner, digest, request, before,"
            " created_ms) VALUES ('open', 'box', 'load', 'm', 'pending', 'me', 'me', '', '{}', '{}', 1)"
        )
    )
    audit = forge.parts.service.audit
    assert await audit.verify() is not None
    with sqlite3.connect(storage.path) as db:
        db.execute(statement)
    db.close()
    with pytest.raises(AuditBroken, match=named):
        await audit.verify()


async def test_what_is_archived_goes_on_covering_the_rows_that_stay(storage: Storage, tmp_path: Path) -> None:
    await storage.write(lambda db: db.execute("INSERT INTO mcp_rules VALUES ('s', 't', 'deny', 'me', 1)"))
    audit = Audit(storage)
    await audit.record("event", actor=LOOPBACK, action="look", subject="x")
    await audit.record("event", actor=LOOPBACK, action="look", subject="y")
    file = tmp_path / "old.jsonl"
    assert await prune(storage, audit, before_ms=2**50, now_ms=2**50, archive=file, actor=ALICE, most_rows=1)
    assert await audit.verify() is not None
    with sqlite3.connect(storage.path) as db:
        db.execute("UPDATE mcp_rules SET decision = 'allow'")
    db.close()
    with pytest.raises(AuditBroken, match="mcp_rules row s/t was changed"):
        await audit.verify()


# The files ------------------------------------------------------------------------------------------------------------


def delete(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()


def delete_the_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


def swap(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def overwrite(path: Path) -> None:
    """Put an older, empty database into the same file."""
    with sqlite3.connect(path) as db:
        db.execute("DROP TRIGGER audit_rows_stay")
        db.execute("DELETE FROM audit")
    db.close()


@pytest.mark.parametrize("attack", [delete, delete_the_log, swap, overwrite])
async def test_a_database_that_is_deleted_or_swapped_under_the_service_is_noticed_and_nothing_is_done(
    forge: Forge, sim: Simulator, attack: Callable[[Path], None]
) -> None:
    assert (await forge.load()).status_code == 200
    calls = sim.calls[("llm", "unloadModel")]
    attack(forge.parts.service.storage.path)
    for answer in (
        await forge.post("models/eject", instance_id=SMALL),
        await forge.post("desired", wait=None, model=SMALL),
    ):
        assert answer.status_code == 503, answer.text
        assert answer.json()["type"] == "urn:daemonpulse:problem:audit-unavailable"
    assert sim.calls[("llm", "unloadModel")] == calls
    assert await forge.metric("daemonpulse_audit_writable") == 0


async def test_the_head_leaves_as_metrics_that_verify_takes(forge: Forge) -> None:
    await forge.load()
    seq = await forge.metric("daemonpulse_audit_head_sequence")
    print_ = await forge.metric("daemonpulse_audit_head_fingerprint")
    assert seq is not None
    assert print_ is not None
    noted = Head(round(seq), None, round(print_))
    assert await forge.parts.service.audit.verify(expected=noted) is not None
    with pytest.raises(AuditBroken):
        await forge.parts.service.audit.verify(expected=Head(round(seq), None, round(print_) + 1))


async def test_a_folder_that_everybody_may_write_to_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(StorageFailed, match=r"chmod 700"):
        await Storage.open(folder)
    code, printed = await cli("token", "list", state=folder)
    assert (code, printed.count("\n")) == (2, 1)


async def test_a_database_file_that_others_may_read_is_made_private(tmp_path: Path) -> None:
    storage = await Storage.open(tmp_path)
    await storage.close()
    (tmp_path / FILE_NAME).chmod(0o666)
    storage = await Storage.open(tmp_path)
    await storage.close()
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize("command", [("audit", "verify"), ("token", "list"), ("token", "revoke", "me")])
async def test_a_state_folder_that_does_not_exist_is_an_error_and_is_not_made(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    code, printed = await cli(*command, state=tmp_path / "typo")
    assert (code, printed.count("\n")) == (2, 1)
    assert "typo" in printed
    assert not (tmp_path / "typo").exists()


async def test_damaged_pages_are_one_line_and_no_traceback(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    storage = await Storage.open(whole)
    await fill(Audit(storage), 50)
    await storage.close()
    content = (whole / FILE_NAME).read_bytes()
    size = 4096
    for page in range(len(content) // size):
        for noise in (b"\0", b"\xff"):
            state = tmp_path / f"{page}-{noise.hex()}"
            state.mkdir(mode=0o700)
            damaged = bytearray(content)
            damaged[page * size + 8 : (page + 1) * size] = noise * (size - 8)
            (state / FILE_NAME).write_bytes(damaged)
            for command in (("audit", "verify"), ("token", "list"), ("token", "new", "--name", "me")):
                code, printed = await cli(*command, state=state)
                assert code in {0, 1, 2}
                assert "Traceback" not in printed
                assert code == 0 or printed.count("\n") == 1, printed
            verified, printed = await cli("audit", "verify", state=state)
            assert verified != 0 or "unbroken" in printed or "empty" in printed


async def test_a_damaged_database_is_503_and_not_a_bug(start_forge: StartForge, sim: Simulator) -> None:
    forge = await start_forge(sim)
    await forge.load()
    path = forge.parts.service.storage.path
    await forge.parts.service.storage.write(lambda db: db.execute("UPDATE heartbeat SET at_ms = 1"))
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        root = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'operations'").fetchone()[0]
    db.close()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)
    for answer in (await forge.http.get("/v1/operations"), await forge.load()):
        assert answer.status_code in {200, 503}, answer.text
