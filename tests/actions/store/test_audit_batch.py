"""The journal: who shares an fsync with whom, and what a row that no database takes costs the others."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from actions.domain.actor import internal
from actions.store import audit_batch as module
from actions.store.audit import Audit, Entry
from actions.store.audit_batch import Journal, Row
from actions.store.database import Storage, StorageFailed


def row(subject: str, value: float = 1) -> Row:
    return Row("intent", internal("gate"), "mcp.call", subject, "o", {"x": value})


async def test_a_row_that_cannot_be_written_is_refused_and_its_neighbours_are_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = await Storage.open(tmp_path)
    audit = Audit(storage)
    published: list[str] = []
    audit.sinks.append(lambda entry: published.append(entry.subject))
    journal = Journal(storage, audit)
    journal.write_soon(row("first"))
    journal.write_soon(row("impossible too", float("nan")))
    waiting = [
        asyncio.create_task(journal.write(one)) for one in (row("impossible", float("nan")), row("last"))
    ]
    running = asyncio.create_task(journal.run())
    with caplog.at_level(logging.CRITICAL, "actions.store.audit_batch"):
        refused, written = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(refused, StorageFailed)
        assert written is None
        await journal.write(row("afterwards"))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert published == ["first", "last", "afterwards"]
    assert await audit.verify() is not None
    await storage.close()


async def test_an_outcome_shares_the_fsync_of_the_next_intent_and_needs_none_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = await Storage.open(tmp_path)
    audit = Audit(storage)
    batches: list[list[str]] = []
    published = asyncio.Event()

    def note(*entries: Entry) -> None:
        batches.append([entry.subject for entry in entries])
        published.set()

    monkeypatch.setattr(audit, "published", note)
    monkeypatch.setattr(module, "_BEHIND_S", 0.3)
    journal = Journal(storage, audit)
    running = asyncio.create_task(journal.run())
    await journal.write(row("first intent"))
    journal.write_soon(row("first outcome"))
    await journal.write(row("second intent"))
    published.clear()
    for number in ("second", "third"):
        journal.write_soon(row(f"{number} outcome"))
    await asyncio.wait_for(published.wait(), 20)
    journal.write_soon(row("fourth outcome"))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert batches == [
        ["first intent"],
        ["first outcome", "second intent"],
        ["second outcome", "third outcome"],
        ["fourth outcome"],  # what is left is written in the end
    ]
    await storage.close()


async def test_all_who_wait_are_told_that_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    storage = await Storage.open(tmp_path)
    journal = Journal(storage, Audit(storage), retry_s=600)
    waiting = [asyncio.create_task(journal.write(row(f"intent {number}"))) for number in range(9)]
    for number in range(9):
        journal.write_soon(row(f"outcome {number}"))
    failed = fail_writing(monkeypatch, storage, times=1_000)
    running = asyncio.create_task(journal.run())
    await asyncio.wait_for(asyncio.wait(waiting), 20)
    assert all(isinstance(one.exception(), StorageFailed) for one in waiting)
    assert failed.qsize() == 5, "a batch each, and then it waits"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await storage.close()


async def test_outcomes_are_kept_while_the_disk_fails_and_intents_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = await Storage.open(tmp_path)
    audit = Audit(storage)
    journal = Journal(storage, audit, retry_s=600)
    running = asyncio.create_task(journal.run())
    failed = fail_writing(monkeypatch, storage, times=2)
    for number in range(3):
        journal.write_soon(row(f"outcome {number}"))
    await asyncio.wait_for(failed.get(), 20)
    with pytest.raises(StorageFailed, match="disk is full"):  # and not when the others are tried again
        await asyncio.wait_for(journal.write(row("intent")), 20)
    await journal.write(row("another intent"))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    subjects = [entry.subject for entry in await audit.read(since=0)]
    assert subjects == ["outcome 0", "outcome 1", "outcome 2", "another intent"]
    await storage.close()


async def test_outcomes_are_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = await Storage.open(tmp_path)
    audit = Audit(storage)
    written = asyncio.Event()
    audit.sinks.append(lambda _: written.set())
    journal = Journal(storage, audit, retry_s=0.01)
    running = asyncio.create_task(journal.run())
    fail_writing(monkeypatch, storage, times=3)
    journal.write_soon(row("outcome"))
    await asyncio.wait_for(written.wait(), 20)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await storage.close()


def fail_writing(monkeypatch: pytest.MonkeyPatch, storage: Storage, *, times: int) -> asyncio.Queue[None]:
    """Fail so many writes, then let them through; tells of each that failed."""
    submit, loop = storage.submit, asyncio.get_running_loop()
    left = times
    failed: asyncio.Queue[None] = asyncio.Queue()

    def fail(work: Any, then: Any, **options: Any) -> None:
        nonlocal left
        if not left:
            submit(work, then, **options)
            return
        left -= 1
        failed.put_nowait(None)
        loop.call_soon(then, None, StorageFailed("the disk is full"))

    monkeypatch.setattr(storage, "submit", fail)
    return failed
