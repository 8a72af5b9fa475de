"""The facade: how a daemon is, how it comes back; one identity for everything."""

import asyncio
import logging
from typing import Any
from unittest.mock import create_autospec

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection

from exporter.llmster import client as client_module
from exporter.llmster.client import BACKOFF_FIRST_S, BACKOFF_MOST_S, DaemonClient, DaemonState, Health
from exporter.llmster.errors import (
    AuthenticationRefused,
    ConnectionLost,
    DaemonStalled,
    DaemonUnreachable,
    LlmsterError,
)
from exporter.llmster.session import Session
from exporter.llmster.state import DaemonProcess, DaemonVersion
from exporter.llmster.wire.connection import WireCounts
from exporter.llmster.wire.messages import Identity
from exporter.llmster.wire.sockets import Sockets
from tests.exporter.llmster.connecting import TOKEN, hesitant, kept, make, until
from tests.exporter.llmster.scripted import PATIENT, Daemon, Failing, running
from tests.exporter.llmster.wire.test_transport import free_port

REFUSAL = '{"success":false,"error":"Invalid API token."}'


async def test_every_namespace_gets_the_same_identity() -> None:
    async with running() as daemon, kept(make(daemon.http_url)) as client:
        await client.snapshot()
        async with client.log_channel():
            pass

    namespaces = {namespace for namespace, _ in daemon.handshakes}
    assert namespaces == {"system", "llm", "embedding", "repository", "runtime", "diagnostics"}
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


async def test_before_the_first_attempt_nothing_is_known() -> None:
    client = make("http://127.0.0.1:1")

    assert client.health().state is DaemonState.DOWN
    assert not client.is_settled
    await client.settled(within_s=0)
    with pytest.raises(DaemonUnreachable, match="no connection has been made yet"):
        await client.snapshot()


@pytest.mark.parametrize(("welcomed", "attempts"), [(True, [0, 0, 0]), (False, [1, 2, 3])])
async def test_only_a_session_that_lived_long_makes_the_next_attempt_the_first_again(
    monkeypatch: pytest.MonkeyPatch,
    *,
    welcomed: bool,
    attempts: list[int],
) -> None:
    """However long a daemon leaves us waiting before it is one."""
    monkeypatch.setattr(client_module, "STEADY_AFTER_S", 0.01)
    client = make("http://127.0.0.1:1")
    opened = create_autospec(Session, instance=True)
    opened.process, opened.version = DaemonProcess(1, is_daemon=True), DaemonVersion("1")
    seen: list[int] = []

    async def session() -> LlmsterError:
        if welcomed:
            client._welcome(opened)
        await asyncio.sleep(0.02)
        return ConnectionLost("gone")

    def backoff_s(attempt: int) -> float:
        seen.append(attempt)
        return 0.0

    monkeypatch.setattr(client, "_run_session", session)
    monkeypatch.setattr(client, "_backoff_s", backoff_s)
    async with kept(client):
        await until(lambda: len(seen) >= 3)
    assert seen[:3] == attempts


async def test_a_refused_identity_is_a_daemon_that_refuses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with (
        running(Daemon(handshake=REFUSAL)) as daemon,
        kept(make(daemon.http_url, token=TOKEN)) as client,
    ):
        health = client.health()
        assert health.state is DaemonState.REFUSED
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


async def test_a_dropped_main_socket_starts_a_new_session_with_the_same_identity() -> None:
    async with running() as daemon, kept(make(daemon.http_url)) as client:
        await client.snapshot()
        daemon.open_sockets["system"].transport.abort()
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


@pytest.mark.parametrize("namespace", ["llm", "embedding", "repository"])
async def test_any_other_socket_that_is_lost_is_opened_again_within_the_session(namespace: str) -> None:
    async with running() as daemon, kept(make(daemon.http_url)) as client:
        before = await client.snapshot()
        daemon.open_sockets[namespace].transport.abort()
        await asyncio.sleep(0.01)
        after = await client.snapshot()

        assert len(after.instances) == len(before.instances)
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


@pytest.mark.parametrize("endpoint", ["version", "info"])
async def test_a_version_or_pid_that_is_not_told_costs_nothing_else(endpoint: str) -> None:
    daemon = Daemon()

    def fail(_: Any) -> Any:
        raise Failing({"title": "starting up"})

    daemon.results["system", endpoint] = fail
    async with running(daemon), kept(make(daemon.http_url)) as client:
        snapshot = await client.snapshot()
        assert client.health() == Health(DaemonState.RUNNING, None)

    assert snapshot.instances
    assert (snapshot.version.version is None) == (endpoint == "version")
    assert (snapshot.process.pid is None) == (endpoint == "info")


def sockets_to(daemon: Daemon, group: asyncio.TaskGroup) -> Sockets:
    return Sockets(
        base_url=daemon.url,
        identity=Identity.guest(),
        timeouts=PATIENT,
        counts=WireCounts(),
        group=group,
    )


async def test_a_socket_that_opens_when_the_session_is_over_is_not_left_behind() -> None:
    async with hesitant("/diagnostics") as (daemon, go_on), asyncio.TaskGroup() as group:
        sockets = sockets_to(daemon, group)
        await sockets.open()
        opening = asyncio.create_task(sockets.connection("diagnostics"))
        await until(lambda: len(daemon.handshakes) == 4)
        await sockets.close()
        go_on.set()

        with pytest.raises(ConnectionLost, match="session ended"):
            await opening


async def test_a_session_that_ends_while_a_socket_is_opened_cancels_nobody_who_waits_for_it() -> None:
    async with running() as daemon, asyncio.TaskGroup() as group:
        sockets = sockets_to(daemon, group)
        await sockets.open()
        waiting = asyncio.create_task(sockets.connection("diagnostics"))
        await asyncio.sleep(0)  # the opening is a task by now, and has not begun
        await sockets.close()

        with pytest.raises(ConnectionLost, match="session ended"):
            await waiting


async def test_what_clients_share_is_held_exactly_while_a_session_is_opened() -> None:
    seen: list[list[str]] = []

    async with running() as daemon:

        class Held:
            async def __aenter__(self) -> None:
                seen.append(sorted(namespace for namespace, _ in daemon.handshakes))

            async def __aexit__(self, *_: object) -> None:
                seen.append(sorted(namespace for namespace, _ in daemon.handshakes))

        async with kept(DaemonClient(name="d", url=daemon.http_url, timeouts=PATIENT, opening=Held())):
            assert seen == [[], ["embedding", "llm", "system"]]
