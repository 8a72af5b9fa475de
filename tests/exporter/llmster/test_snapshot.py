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
from tests.exporter.llmster.scripted import NAMESPACES, Daemon, Failing, Silence, running


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
    assert client.counts.unreadable == {}


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
            "runtime.listEngines": 1,
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
    assert client.counts.unreadable == {"processing_state": 1}


async def test_an_unknown_processing_status_is_counted() -> None:
    daemon = Daemon()
    daemon.results["embedding", "getInstanceProcessingState"] = {"status": "dreaming", "queued": 1}
    async with running(daemon), kept(make(daemon.http_url)) as client:
        snapshot = await client.snapshot()

    assert [e.processing.status for e in snapshot.instances if e.processing][-1] == "dreaming"
    assert client.counts.unreadable == {"processing_status": 1}


@pytest.mark.parametrize("entry", [{"modelKey": 5}, None])
async def test_odd_entries_are_counted_and_cost_only_themselves(entry: object) -> None:
    daemon = Daemon()
    daemon.results["embedding", "listLoaded"] = [entry]
    daemon.results["system", "listDownloadedModels"] = [entry, entry]
    async with running(daemon), kept(make(daemon.http_url)) as client:
        snapshot = await client.snapshot()

    assert {each.info.type for each in snapshot.instances} == {"llm"}
    assert snapshot.models == ()
    assert client.counts.unreadable == {"instance": 1, "model": 2}


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


async def test_a_list_that_cannot_be_read_costs_its_domain_only() -> None:
    daemon = Daemon()
    daemon.results["llm", "listLoaded"] = 5
    async with running(daemon), kept(make(daemon.http_url)) as client:
        snapshot = await client.snapshot()
        assert client.health().state is DaemonState.RUNNING

    assert {each.info.type for each in snapshot.instances} == {"embedding"}
    assert snapshot.unread_domains == ("llm",)
    assert not snapshot.is_complete


async def test_lists_of_which_none_can_be_read_are_a_violation() -> None:
    daemon = Daemon()
    daemon.results["llm", "listLoaded"] = daemon.results["embedding", "listLoaded"] = 5
    async with running(daemon), kept(make(daemon.http_url)) as client:
        with pytest.raises(ProtocolViolation, match=r"listLoaded"):
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


def hang(_: Any) -> Any:
    raise Silence


async def test_a_list_that_hangs_costs_its_domain_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "PART_GRACE_S", 0.01)
    daemon = Daemon()
    daemon.results["llm", "listLoaded"] = hang
    async with running(daemon), kept(make(daemon.http_url)) as client:
        snapshot = await client.snapshot()

    assert {each.info.type for each in snapshot.instances} == {"embedding"}
    assert snapshot.unread_domains == ("llm",)


async def test_a_daemon_that_answers_no_list_is_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "LIST_LIMIT_S", 0.05)
    daemon = Daemon()
    daemon.results["llm", "listLoaded"] = daemon.results["embedding", "listLoaded"] = hang
    async with running(daemon), kept(make(daemon.http_url)) as client:
        with pytest.raises(DaemonStalled, match=r"listLoaded"):
            await client.snapshot()


async def test_a_state_that_hangs_costs_that_instance_its_state_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "PART_GRACE_S", 2.0)
    daemon = Daemon()
    daemon.results["embedding", "getInstanceProcessingState"] = hang
    async with running(daemon), kept(make(daemon.http_url)) as client:
        snapshot = await client.snapshot()

    told = {each.info.type: each.processing is not None for each in snapshot.instances}
    assert told == {"llm": True, "embedding": False}


@pytest.mark.parametrize(
    "fact",
    [
        ("system", "version"),
        ("system", "info"),
        ("system", "listDownloadedModels"),
        ("repository", "lmLinkStatus"),
        ("runtime", "listEngines"),
        ("llm", "getLoadConfig"),
        ("llm", "estimateModelUsage"),
    ],
)
async def test_a_fact_that_hangs_costs_nothing_but_itself(
    monkeypatch: pytest.MonkeyPatch, fact: tuple[str, str]
) -> None:
    monkeypatch.setattr(session_module, "PART_GRACE_S", 2.0)
    daemon = Daemon()
    daemon.results[fact] = hang
    async with running(daemon), kept(make(daemon.http_url)) as client:
        snapshot = await client.snapshot()

    llm = next(each for each in snapshot.instances if each.info.type == "llm")
    told = {
        ("system", "version"): snapshot.version.version,
        ("system", "info"): snapshot.process.pid,
        ("system", "listDownloadedModels"): snapshot.models,
        ("repository", "lmLinkStatus"): snapshot.link,
        ("runtime", "listEngines"): snapshot.engines,
        ("llm", "getLoadConfig"): llm.config,
        ("llm", "estimateModelUsage"): llm.vram_estimate_bytes,
    }
    missing = {fact} | ({("llm", "estimateModelUsage")} if fact == ("llm", "getLoadConfig") else set())
    assert {name for name, value in told.items() if value is None} == missing


async def test_a_namespace_that_does_not_open_costs_what_it_would_have_told_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "PART_GRACE_S", 2.0)
    async with hesitant("/repository") as (daemon, _), kept(make(daemon.http_url)) as client:
        snapshot = await client.snapshot()

    assert snapshot.link is None
    assert snapshot.models is not None
    assert snapshot.instances


@pytest.mark.parametrize("namespace", ["system", "llm", "embedding"])
async def test_a_main_namespace_that_is_refused_costs_no_session(namespace: str) -> None:
    daemon = Daemon(namespaces=NAMESPACES - {namespace})
    async with running(daemon), kept(make(daemon.http_url)) as client:
        snapshot = await client.snapshot()

    types = {each.info.type for each in snapshot.instances}
    assert types == {"llm", "embedding"} - {namespace}
    assert (snapshot.models is None) == (namespace == "system")


async def test_a_domain_that_some_daemons_have_is_read_where_it_is() -> None:
    daemon = Daemon(namespaces=NAMESPACES | {"decision"})
    [entry, *_] = daemon.results["embedding", "listLoaded"]
    entry = entry | {"type": "decision", "identifier": "judge", "instanceReference": "d1"}
    daemon.results["decision", "listLoaded"] = [entry]
    daemon.results["decision", "getInstanceProcessingState"] = {"status": "idle", "queued": 0}
    async with running(daemon), kept(make(daemon.http_url)) as client:
        await client.snapshot()
        await until(lambda: "decision" in daemon.open_sockets)
        snapshot = await client.snapshot()

    assert {each.info.type for each in snapshot.instances} == {"llm", "embedding", "decision"}
    assert client.failures == {}


async def test_what_a_snapshot_leaves_behind_ends_with_the_session() -> None:
    async with running() as daemon:
        daemon.results["system", "listDownloadedModels"] = hang
        before = asyncio.all_tasks()
        async with kept(make(daemon.http_url)) as client:
            await client.snapshot()
        left = {task for task in asyncio.all_tasks() - before if "exporter" in repr(task.get_coro())}
        assert not left
