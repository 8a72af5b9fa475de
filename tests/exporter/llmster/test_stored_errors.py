"""An error that is kept and raised again, for as long as a daemon stays away, keeps nothing but its words."""

import traceback
from collections.abc import Awaitable, Callable

import pytest
from websockets.asyncio.server import ServerConnection

from exporter.llmster.client import DaemonClient
from exporter.llmster.errors import CallFailed, ConnectionLost, DaemonUnreachable, LlmsterError
from tests.exporter.llmster.connecting import kept, make, until
from tests.exporter.llmster.scripted import Daemon, connected, running
from tests.exporter.llmster.wire.test_transport import free_port


async def raised_by(ask: Callable[[], Awaitable[object]]) -> tuple[LlmsterError, int]:
    """Give the error, and how many frames it had passed when it was caught."""
    with pytest.raises(LlmsterError) as caught:
        await ask()
    return caught.value, len(list(traceback.walk_tb(caught.value.__traceback__)))


async def test_asking_a_daemon_that_stays_away_raises_the_same_words_and_no_longer_way_each_time() -> None:
    client = make(f"http://127.0.0.1:{free_port()}")
    async with kept(client):
        first, length = await raised_by(client.snapshot)
        again = [await raised_by(client.snapshot) for _ in range(100)]

    assert {type(error) for error, _ in again} == {DaemonUnreachable}
    assert {str(error) for error, _ in again} == {str(first)}
    assert {frames for _, frames in again} == {length}


async def test_what_is_kept_of_a_failed_attempt_is_its_words_and_no_frame() -> None:
    async with kept(make(f"http://127.0.0.1:{free_port()}")) as client:
        await until(lambda: client.failures["unreachable"] >= 1)

    assert isinstance(client._problem, DaemonUnreachable)
    assert (client._problem.__traceback__, client._problem.__context__) == (None, None)


async def test_a_lost_socket_says_so_again_and_again_without_growing() -> None:
    async def drop(socket: ServerConnection, _: object) -> bool:
        socket.transport.abort()
        return True

    async with running(Daemon(on_frame=drop)) as daemon, connected(daemon) as connection:
        await raised_by(lambda: connection.call("listLoaded"))
        _, length = await raised_by(lambda: connection.call("listLoaded"))
        again = [await raised_by(lambda: connection.call("listLoaded")) for _ in range(100)]

        assert {type(error) for error, _ in again} == {ConnectionLost}
        assert {frames for _, frames in again} == {length}
        assert connection.lost is not None
        assert connection.lost.__traceback__ is None


def test_a_copy_keeps_everything_the_daemon_said() -> None:
    error = CallFailed("No model.", code="generic.x", cause="None is loaded.", suggestion="Load one.")

    copied = error.anew()

    assert copied is not error
    assert str(copied) == str(error) == "No model. None is loaded. Load one."
    assert (copied.title, copied.code, copied.cause) == ("No model.", "generic.x", "None is loaded.")


async def test_before_the_first_attempt_asking_fails_plainly() -> None:
    client = DaemonClient(name="d", url="http://127.0.0.1:1")
    error, _ = await raised_by(client.snapshot)
    assert isinstance(error, DaemonUnreachable)
