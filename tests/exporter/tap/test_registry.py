"""Reports wait for whoever fetches them, in order, bounded; what was given up is told."""

import asyncio

import pytest

from exporter.tap import registry as module
from exporter.tap.clients import Clients
from exporter.tap.exchange import Clocks
from exporter.tap.registry import MAX_BATCH, Registry
from exporter.tap.report import MAX_LIVE


def registry() -> Registry:
    return Registry(Clients({}), gap_bounds=(0.1,), clocks=Clocks(lambda: 5.0, lambda: 7))


def end_some(reports: Registry, count: int) -> None:
    for _ in range(count):
        exchange = reports.begin(client="ci", route="other", method="GET", predicts=False)
        reports.end(exchange)
        reports.end(exchange)  # a second time does nothing


async def test_a_stranger_starts_with_what_ends_from_now_on() -> None:
    reports = registry()
    end_some(reports, 3)
    first = await reports.batch("", 1, within_s=0)
    assert (first.reports, first.missed, first.next_id) == ((), 0, 4)
    end_some(reports, 2)
    second = await reports.batch(first.boot, first.next_id, within_s=0)
    assert [report.id for report in second.reports] == [4, 5]
    assert second.next_id == 6


async def test_what_was_given_up_is_told_and_a_batch_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REPORTS", 1500)
    reports = registry()
    boot = (await reports.batch("", 1, within_s=0)).boot
    end_some(reports, 1600)
    first = await reports.batch(boot, 1, within_s=0)
    assert (first.missed, len(first.reports), first.reports[0].id) == (100, MAX_BATCH, 101)
    second = await reports.batch(boot, first.next_id, within_s=0)
    assert (second.missed, len(second.reports), second.next_id) == (0, 500, 1601)


async def test_a_fetch_waits_for_news() -> None:
    reports = registry()
    boot = (await reports.batch("", 1, within_s=0)).boot
    waiting = asyncio.create_task(reports.batch(boot, 1, within_s=30))
    await asyncio.sleep(0)
    assert not waiting.done()
    end_some(reports, 1)
    assert [report.id for report in (await waiting).reports] == [1]


async def test_the_list_of_what_is_in_flight_has_an_end_and_its_numbers_do_not() -> None:
    reports = registry()
    for number in range(MAX_LIVE + 50):
        reports.begin(client=f"c{number % 2}", route="/v1/messages", method="POST", predicts=True)
    batch = await reports.batch("", 1, within_s=0)
    assert len(batch.live) == MAX_LIVE
    assert batch.live[0].phase == "waiting"
    assert batch.running == {"c0": (MAX_LIVE + 50) // 2, "c1": (MAX_LIVE + 50) // 2}


async def test_the_end_waits_for_a_reader_and_only_for_one() -> None:
    reports = registry()
    end_some(reports, 1)
    await reports.all_fetched()  # nobody reads
    boot = (await reports.batch("", 1, within_s=0)).boot
    await reports.batch(boot, 2, within_s=0)
    end_some(reports, 1)
    waiting = asyncio.create_task(reports.all_fetched())
    await asyncio.sleep(0)
    assert not waiting.done()
    batch = await reports.batch(boot, 2, within_s=0)
    await reports.batch(boot, batch.next_id, within_s=0)
    await waiting
