"""The journal: who shares an fsync with whom, and what a row that no database takes costs the others."""

import asyncio
import logging
from pathlib import Path

import pytest

from actions.audit import Audit, Entry
from actions.auth import internal
from actions.mcp.journal import Journal, Row
from actions.storage import Storage, StorageFailed


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
    with caplog.at_level(logging.CRITICAL, "actions.mcp.journal"):
        refused, written = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(refused, StorageFailed)
        assert written is None
        await journal.write(row("afterwards"))
    assert published == ["first", "last", "afterwards"]
    assert await audit.verify() is not None
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
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
    journal = Journal(storage, audit)
    running = asyncio.create_task(journal.run())
    await journal.write(row("first intent"))
    journal.write_soon(row("first outcome"))
    await journal.write(row("second intent"))
    published.clear()
    journal.write_soon(row("second outcome"))
    await asyncio.wait_for(published.wait(), 20)
    assert batches == [["first intent"], ["first outcome", "second intent"], ["second outcome"]]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await storage.close()
