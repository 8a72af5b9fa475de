"""A snapshot: what it says, what it costs, and what may fail without costing it."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from exporter.llmster import session as session_module
from exporter.llmster.client import DaemonState
from exporter.llmster.errors import (
    DaemonStalled,
    ProtocolViolation,
)
from tests.exporter.llmster.connecting import TOKEN, calls_of, hesitant, kept, make, until
from tests.exporter.llmster.scripted import PATIENT, Daemon, Failing, Silence, running


async def test_a_snapshot_says_what_the_recordings_say() -> None:
    async with running() as daemon, kept(make(daemon.http_url)) as client:
        snapshot = await client.snapshot()
        assert client.health().state is DaemonState.RUNNING

    assert (snapshot.version.version, snapshot.process.is_daemon) == ("0.4.24", True)
    listed = [*daemon.results["llm", "listLoaded"], *daemon.results["embedding", "listLoaded"]]
    assert [each.info.identifier for each in snapshot.instances] == [each["identifier"] for each in listed]
    assert all(each.processing is not None for each in snapshot.instances)
    assert snapshot.models is not None
    assert len(snapshot.models) == len(daemon.results["system", "listDownloadedModels"])
    assert snapshot.link is not None
    assert snapshot.auth_required is False
    assert client.tally.unreadable == {}


async def test_a_snapshot_costs_one_list_per_namespace_and_one_state_per_instance() -> None:
    async with running() as daemon, kept(make(daemon.http_url)) as client:
        await client.snapshot()
        first = calls_of(daemon, client)
        await client.snapshot()
        await client.snapshot()
        later = calls_of(daemon, client) - first

    llms, embeddings = (len(daemon.results[ns, "listLoaded"]) for ns in ("llm", "embedding"))
    budget = Counter(
        {
            "llm.listLoaded": 1,
            "embedding.listLoaded": 1,
            "llm.getInstanceProcessingState": llms,
            "embedding.getInstanceProcessingState": embeddings,
        }
    )
    assert later == budget + budget
    # Once per session, once per minute, once per load: none of them with every scrape.
    assert first - budget == Counter(
        {
            "system.version": 1,
            "system.info": 1,
            "system.listDownloadedModels": 1,
            "repository.lmLinkStatus": 1,
            "llm.getLoadConfig": llms,
            "llm.estimateModelUsage": llms,
        }
    )


async def test_an_instance_that_was_unloaded_meanwhile_is_left_out() -> None:
    daemon = Daemon()

    def gone(_: Any) -> Any:
        code = "generic.specificModelUnloaded"
        raise Failing({"title": "unloaded", "displayData": {"code": code}})

    daemon.results["llm", "getInstanceProcessingState"] = gone
    async with running(daemon), kept(make(daemon.http_url)) as client:
        snapshot = await client.snapshot()

    assert {each.info.type for each in snapshot.instances} == {"embedding"}


async def test_an_instance_whose_state_cannot_be_read_is_still_loaded() -> None:
    daemon = Daemon()

    def fail(_: Any) -> Any:
        raise Failing({"title": "Injected failure"})

    daemon.results["llm", "getInstanceProcessingState"] = fail
    daemon.results["embedding", "getInstanceProcessingState"] = {"status": 5}
    async with running(daemon), kept(make(daemon.http_url)) as client:
        snapshot = await client.snapshot()

    assert [each.processing for each in snapshot.instances] == [None] * len(snapshot.instances)
    assert len({each.info.type for each in snapshot.instances}) == 2
    assert client.tally.unreadable == {"processing_state": 1}


async def test_an_unknown_processing_status_is_counted() -> None:
    daemon = Daemon()
    daemon.results["embedding", "getInstanceProcessingState"] = {"status": "dreaming", "queued": 1}
    async with running(daemon), kept(make(daemon.http_url)) as client:
        snapshot = await client.snapshot()

    assert [e.processing.status for e in snapshot.instances if e.processing][-1] == "dreaming"
    assert client.tally.unreadable == {"processing_status": 1}


@pytest.mark.parametrize("entry", [{"modelKey": 5}, None])
async def test_odd_entries_are_counted_and_cost_only_themselves(entry: object) -> None:
    daemon = Daemon()
    daemon.results["embedding", "listLoaded"] = [entry]
    daemon.results["system", "listDownloadedModels"] = [entry, entry]
    async with running(daemon), kept(make(daemon.http_url)) as client:
        snapshot = await client.snapshot()

    assert {each.info.type for each in snapshot.instances} == {"llm"}
    assert snapshot.models == ()
    assert client.tally.unreadable == {"instance": 1, "model": 2}


async def test_what_is_not_needed_may_fail_without_costing_the_snapshot() -> None:
    daemon = Daemon()

    def fail(_: Any) -> Any:
        raise Failing({"title": "no"})

    daemon.results["system", "listDownloadedModels"] = {"not": "a list"}
    daemon.results["repository", "lmLinkStatus"] = fail
    daemon.results["llm", "getLoadConfig"] = "nonsense"
    async with running(daemon), kept(make(daemon.http_url)) as client:
        snapshot = await client.snapshot()
        await client.snapshot()

    assert (snapshot.models, snapshot.link) == (None, None)
    assert all(each.config is None for each in snapshot.instances)
    assert snapshot.instances
    # A failure is remembered, too: it is not asked for again with every scrape.
    assert daemon.calls()["system.listDownloadedModels"] == 1
    assert daemon.calls()["repository.lmLinkStatus"] == 1


async def test_a_list_that_is_none_is_a_violation() -> None:
    daemon = Daemon()
    daemon.results["llm", "listLoaded"] = 5
    async with running(daemon), kept(make(daemon.http_url)) as client:
        with pytest.raises(ProtocolViolation, match=r"llm\.listLoaded"):
            await client.snapshot()
        assert client.health().state is DaemonState.RUNNING


async def test_with_a_token_rest_is_asked_once_whether_strangers_are_let_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    async def requires_token(url: str, **_: Any) -> bool:
        asked.append(url)
        return True

    monkeypatch.setattr("exporter.llmster.rest.requires_token", requires_token)
    async with running() as daemon, kept(make(daemon.http_url, token=TOKEN)) as client:
        snapshots = [await client.snapshot() for _ in range(3)]

    assert [each.auth_required for each in snapshots] == [True] * 3
    assert asked == [daemon.http_url]


async def test_a_call_that_hangs_makes_the_snapshot_a_stall() -> None:
    daemon = Daemon()

    def hang(_: Any) -> Any:
        raise Silence

    daemon.results["llm", "listLoaded"] = hang
    async with running(daemon), kept(make(daemon.http_url, call_s=0.05)) as client:
        with pytest.raises(DaemonStalled, match=r"llm\.listLoaded"):
            await client.snapshot()


async def test_a_slow_fact_is_left_out_instead_of_holding_up_the_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "FACT_TIMEOUT_S", 0.05)
    async with hesitant("/repository") as (daemon, _), kept(make(daemon.http_url)) as client:
        async with asyncio.timeout(PATIENT.handshake_s / 2):  # what a snapshot must not take
            snapshot = await client.snapshot()

    assert snapshot.link is None
    assert snapshot.models is not None
    assert snapshot.instances


async def test_a_failed_snapshot_leaves_no_reading_behind() -> None:
    def hang(_: Any) -> Any:
        raise Silence

    async with running() as daemon, kept(make(daemon.http_url)) as client:
        daemon.results["llm", "listLoaded"] = 5
        daemon.results["system", "listDownloadedModels"] = hang
        before = asyncio.all_tasks()
        with pytest.raises(ProtocolViolation):
            await client.snapshot()
        await until(lambda: daemon.calls()["system.listDownloadedModels"] == 1)

        readings = [task for task in asyncio.all_tasks() - before if "socket" not in task.get_name()]
        assert [task for task in readings if "Fact.get" in repr(task.get_coro())] == []
