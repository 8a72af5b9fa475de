"""The facade: how a daemon is, what a snapshot costs, how it comes back; one identity for everything."""

import asyncio
import contextlib
import dataclasses
import logging
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection, serve

from exporter.llmster import client as client_module
from exporter.llmster import connection as connection_module
from exporter.llmster import session as session_module
from exporter.llmster.client import BACKOFF_FIRST_S, BACKOFF_MOST_S, DaemonClient, DaemonState
from exporter.llmster.connection import WireTally
from exporter.llmster.errors import (
    AuthenticationRefused,
    CallFailed,
    ConnectionLost,
    DaemonStalled,
    DaemonUnreachable,
    ProtocolViolation,
)
from exporter.llmster.messages import Identity
from exporter.llmster.session import Session
from tests.exporter.llmster.scripted import PATIENT, Daemon, Failing, Silence, running, tell
from tests.exporter.llmster.test_connection import until
from tests.exporter.llmster.test_transport import free_port

TOKEN = "sk-lm-Ab3dE6gH:0123456789abcdefghij"
REFUSAL = '{"success":false,"error":"Invalid API token."}'


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "BACKOFF_FIRST_S", 0.001)
    monkeypatch.setattr(client_module, "BACKOFF_MOST_S", 0.002)


def make(url: str, *, token: str | None = None, **limits: float) -> DaemonClient:
    return DaemonClient(name="d", url=url, token=token, timeouts=dataclasses.replace(PATIENT, **limits))


@contextlib.asynccontextmanager
async def kept(client: DaemonClient) -> AsyncIterator[DaemonClient]:
    """Keep a client connected, from after its first attempt."""
    run = asyncio.create_task(client.run())
    try:
        await client.settled(within_s=10)
        yield client
    finally:
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await run


def calls_of(daemon: Daemon, client: DaemonClient) -> Counter[str]:
    assert client.failures == {}
    return daemon.calls()


# Reading -------------------------------------------------------------------------------------------------------------


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


async def test_every_namespace_gets_the_same_identity() -> None:
    async with running() as daemon, kept(make(daemon.http_url)) as client:
        await client.snapshot()
        async with client.log_channel():
            pass

    namespaces = {namespace for namespace, _ in daemon.handshakes}
    assert namespaces == {"system", "llm", "embedding", "repository", "diagnostics"}
    assert len({(shake["clientIdentifier"], shake["clientPasskey"]) for _, shake in daemon.handshakes}) == 1


async def test_the_token_is_the_identity() -> None:
    async with running() as daemon, kept(make(daemon.http_url, token=TOKEN)):
        pass

    assert daemon.handshakes[0][1] == {
        "authVersion": 1,
        "clientIdentifier": "Ab3dE6gH",
        "clientPasskey": "0123456789abcdefghij",
    }


def test_a_malformed_token_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="form"):
        make("http://127.0.0.1:1", token="sk-lm-short")


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


# How it is -----------------------------------------------------------------------------------------------------------


async def test_before_the_first_attempt_nothing_is_known() -> None:
    client = make("http://127.0.0.1:1")

    assert client.health().state is DaemonState.DOWN
    assert not client.is_settled
    await client.settled(within_s=0)
    with pytest.raises(DaemonUnreachable, match="no connection has been made yet"):
        await client.snapshot()


async def test_a_refused_identity_is_a_running_daemon_with_a_problem(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with (
        running(Daemon(handshake=REFUSAL)) as daemon,
        kept(make(daemon.http_url, token=TOKEN)) as client,
    ):
        health = client.health()
        assert health.state is DaemonState.RUNNING
        assert isinstance(health.problem, AuthenticationRefused)
        with pytest.raises(AuthenticationRefused, match=r"Invalid API token\."):
            await client.snapshot()
        await until(lambda: client.failures["auth"] >= 3)

    ours = [record for record in caplog.records if record.name.startswith("exporter")]
    assert len(ours) == 1  # one line for a problem that stays the same
    assert "0123456789abcdefghij" not in repr([vars(record) for record in caplog.records])


async def test_nobody_listening_is_down() -> None:
    async with kept(make(f"http://127.0.0.1:{free_port()}")) as client:
        assert client.health().state is DaemonState.DOWN
        assert isinstance(client.health().problem, DaemonUnreachable)
        await until(lambda: client.failures["unreachable"] >= 3)
    assert set(client.failures) == {"unreachable"}


async def test_a_handshake_left_unanswered_is_a_stalled_daemon() -> None:
    async with (
        running(Daemon(handshake=None)) as daemon,
        kept(make(daemon.http_url, handshake_s=0.02)) as client,
    ):
        assert client.health().state is DaemonState.STALLED
        assert isinstance(client.health().problem, DaemonStalled)


async def test_a_keep_alive_left_unanswered_shows_before_the_connection_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "STALLED_AFTER_S", 0.02)

    async def ignore_keep_alives(_: ServerConnection, frame: Any) -> bool:
        return bool(frame["type"] == "keepAlive")

    async with (
        running(Daemon(on_frame=ignore_keep_alives)) as daemon,
        kept(make(daemon.http_url, keep_alive_every_s=0.005)) as client,
    ):
        await until(lambda: client.health().state is DaemonState.STALLED)
        assert client.failures == {}


# Coming back ---------------------------------------------------------------------------------------------------------


async def test_a_dropped_socket_starts_a_new_session_with_the_same_identity() -> None:
    async with running() as daemon, kept(make(daemon.http_url)) as client:
        await client.snapshot()
        daemon.open_sockets["llm"].transport.abort()
        await until(lambda: client.sessions == 2)

        assert (await client.snapshot()).instances
        assert client.failures == {"lost": 1}
        assert client.restarts == 0
        assert len({shake["clientIdentifier"] for _, shake in daemon.handshakes}) == 1


@pytest.mark.parametrize(
    ("endpoint", "change", "restarts"),
    [("info", {}, 0), ("info", {"pid": 99}, 1), ("version", {"version": "0.4.25"}, 1)],
)
async def test_only_another_pid_or_version_is_a_restart(
    endpoint: str, change: dict[str, object], restarts: int
) -> None:
    async with running() as daemon, kept(make(daemon.http_url)) as client:
        daemon.results["system", endpoint] = daemon.results["system", endpoint] | change
        daemon.open_sockets["system"].transport.abort()
        await until(lambda: client.sessions == 2)

        assert client.restarts == restarts


async def test_a_daemon_that_comes_up_later_is_found() -> None:
    port = free_port()
    async with kept(make(f"http://127.0.0.1:{port}")) as client:
        await until(lambda: client.failures["unreachable"] >= 1)
        async with running(port=port):
            await client.connected()
            assert client.health().state is DaemonState.RUNNING
            assert (await client.snapshot()).instances


async def test_a_socket_that_is_not_needed_for_reading_may_be_lost() -> None:
    async with running() as daemon, kept(make(daemon.http_url)) as client:
        await client.snapshot()
        daemon.open_sockets["repository"].transport.abort()
        await client.snapshot()

        assert client.sessions == 1
        assert client.health().problem is None


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_the_backoff_stays_in_its_bounds_and_never_shrinks(attempt: int, jitter: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client_module, "BACKOFF_FIRST_S", BACKOFF_FIRST_S)
        patch.setattr(client_module, "BACKOFF_MOST_S", BACKOFF_MOST_S)
        client = DaemonClient(name="d", url="http://127.0.0.1:1", jitter=lambda: jitter)

        delay_s = client._backoff_s(attempt)

        assert BACKOFF_FIRST_S / 2 <= delay_s <= BACKOFF_MOST_S
        assert client._backoff_s(attempt + 1) >= delay_s


def test_jitter_spreads_the_delays() -> None:
    low, high = (
        DaemonClient(name="d", url="http://127.0.0.1:1", jitter=lambda jitter=jitter: jitter)  # type: ignore[misc]
        for jitter in (0.0, 1.0)
    )

    assert low._backoff_s(9) * 2 == high._backoff_s(9)


# The log stream ------------------------------------------------------------------------------------------------------


async def test_a_log_channel_is_stopped_when_its_reader_leaves() -> None:
    async def stream(socket: ServerConnection, frame: Any) -> bool:
        if frame["type"] == "channelCreate":
            await tell(socket, type="channelSend", channelId=frame["channelId"], message="line")
        return bool(frame["type"].startswith("channel"))

    async with running(Daemon(on_frame=stream)) as daemon, kept(make(daemon.http_url)) as client:
        async with client.log_channel() as channel:
            async for message in channel:
                assert bytes(message) == b'"line"'
                break
        await until(lambda: daemon.frames[-1][1]["type"] == "channelSend")

    assert daemon.frames[-1] == (
        "diagnostics",
        {"type": "channelSend", "channelId": 0, "message": {"type": "stop"}},
    )
    assert [frame for _, frame in daemon.frames if frame["type"] == "channelCreate"] == [
        {"type": "channelCreate", "endpoint": "streamLogs", "channelId": 0}
    ]


async def test_a_log_stream_can_be_opened_again_after_a_reader_left_it_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_module, "CHANNEL_BACKLOG", 2)

    async def flood(socket: ServerConnection, frame: Any) -> bool:
        if frame["type"] == "channelCreate":
            for number in range(20):
                await tell(socket, type="channelSend", channelId=frame["channelId"], message=number)
        return bool(frame["type"].startswith("channel"))

    async with running(Daemon(on_frame=flood)) as daemon, kept(make(daemon.http_url)) as client:
        for _ in range(2):
            async with client.log_channel() as channel:
                async for message in channel:
                    assert bytes(message) == b"0"
                    break


async def test_a_log_channel_ends_with_its_socket_and_can_be_opened_again() -> None:
    async with running() as daemon, kept(make(daemon.http_url)) as client:
        daemon.on_frame = _quietly_open
        async with client.log_channel() as channel:
            daemon.open_sockets["diagnostics"].transport.abort()
            with pytest.raises(ConnectionLost):
                await anext(aiter(channel))
        assert client.sessions == 1
        async with client.log_channel():
            pass


async def _quietly_open(_: ServerConnection, frame: Any) -> bool:
    return bool(frame["type"].startswith("channel"))


# Whether a token is required -----------------------------------------------------------------------------------------


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


async def test_a_session_that_cannot_learn_the_version_is_no_session() -> None:
    daemon = Daemon()

    def fail(_: Any) -> Any:
        raise Failing({"title": "starting up"})

    daemon.results["system", "version"] = fail
    async with running(daemon), kept(make(daemon.http_url)) as client:
        assert isinstance(client.health().problem, CallFailed)
        assert client.sessions == 0


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


async def test_a_socket_that_opens_when_the_session_is_over_is_not_left_behind() -> None:
    async with hesitant("/diagnostics") as (daemon, go_on), asyncio.TaskGroup() as group:
        session = Session(
            base_url=daemon.url,
            identity=Identity.guest(),
            rest_url=None,
            timeouts=PATIENT,
            tally=WireTally(),
            group=group,
        )
        await session.open()
        opening = asyncio.create_task(session.connection("diagnostics"))
        await until(lambda: len(daemon.handshakes) == 4)
        await session.close()
        go_on.set()

        with pytest.raises(ConnectionLost, match="session ended"):
            await opening


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


@contextlib.asynccontextmanager
async def hesitant(path: str) -> AsyncIterator[tuple[Daemon, asyncio.Event]]:
    """Serve a daemon that answers the handshake of one namespace only after the event is set."""
    daemon, go_on = Daemon(), asyncio.Event()

    async def serve_socket(socket: ServerConnection) -> None:
        assert socket.request is not None
        if socket.request.path == path:
            daemon.handshakes.append((path, await socket.recv()))
            await go_on.wait()
            await socket.send('{"success":true}')
            await socket.wait_closed()
        else:
            await daemon.serve_socket(socket)

    async with serve(serve_socket, "127.0.0.1", 0, compression=None) as server:
        daemon.port = server.sockets[0].getsockname()[1]
        try:
            yield daemon, go_on
        finally:
            go_on.set()
