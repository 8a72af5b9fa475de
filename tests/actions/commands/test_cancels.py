"""A cancel is answered by an error, a closed channel, silence or a lost socket, or comes too late: the outcome is true.

The daemon's word alone proves nothing: what is loaded, and what it says it loads, decides.
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from llmster_sim import errors
from llmster_sim.engine.loading import Load
from llmster_sim.server import SimConfig, Simulator
from llmster_sim.wire import transfer_calls
from llmster_sim.wire.envelopes import Channel
from llmster_sim.wire.model_calls import ModelEndpoints
from llmster_sim.wire.transfer_calls import HUB_MODEL, NEW_ENGINE
from tests.actions.commands.test_load_cost import until
from tests.actions.conftest import QUICK, SMALL, Forge, StartForge, loaded

Answer = Callable[[Channel], None]

ANSWERS: dict[str, Answer] = {
    "closed": lambda channel: channel.close(),
    "error": lambda channel: channel.fail(errors.out_of_memory()),
    "silence": lambda _channel: None,
    "lost socket": lambda channel: channel.port.hang_up(),
}


@pytest.fixture
async def slow() -> AsyncIterator[Simulator]:
    """A daemon whose loads and downloads go on until a test lets time pass."""
    async with Simulator(SimConfig(scenario="idle", manual_clock=True)) as simulator:
        yield simulator


def on_cancel(
    monkeypatch: pytest.MonkeyPatch, react: Callable[[ModelEndpoints, Channel, Load], None]
) -> None:
    """Let a daemon do something else with the cancel of a load."""

    def replaced(self: ModelEndpoints, channel: Channel, load: Load | None) -> None:
        assert load is not None
        channel.on_message = lambda _message: react(self, channel, load)

    monkeypatch.setattr(ModelEndpoints, "_make_cancellable", replaced)


def give_up(self: ModelEndpoints, load: Load) -> None:
    self._daemon.loader.abort(load)


def end_unheard(self: ModelEndpoints, load: Load) -> None:
    """End the load, and lose the frame that says so."""
    load.listeners.clear()
    self._daemon.loader._complete(load)


def end_soon(self: ModelEndpoints, load: Load) -> None:
    asyncio.get_running_loop().call_later(0.2, self._daemon.loader._complete, load)


def go_on(_self: ModelEndpoints, _load: Load) -> None:
    pass


FATES = {"given up": give_up, "ended": end_unheard, "ends soon": end_soon, "goes on": go_on}


async def begin(forge: Forge, slow: Simulator) -> str:
    """Begin a load that waits for the daemon."""
    begun = (await forge.load(wait=None)).json()
    await until(lambda: slow.daemon.loader.loads)
    return str(begun["id"])


async def cancel(forge: Forge, operation_id: str) -> dict[str, Any]:
    """Cancel an operation and wait for its end."""
    await forge.http.post(f"/v1/operations/{operation_id}/cancel")
    return await forge.operation(operation_id)


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("answer", ANSWERS)
async def test_a_cancelled_load_is_told_as_what_it_came_to(
    start_forge: StartForge, slow: Simulator, monkeypatch: pytest.MonkeyPatch, answer: str, fate: str
) -> None:
    def react(self: ModelEndpoints, channel: Channel, load: Load) -> None:
        FATES[fate](self, load)
        ANSWERS[answer](channel)

    on_cancel(monkeypatch, react)
    forge = await start_forge(slow)
    operation = await cancel(forge, await begin(forge, slow))
    state, problem = operation["state"], operation["problem"]
    if fate == "given up":
        assert (state, loaded(slow) & {SMALL}) == ("cancelled", set()), operation
    elif fate == "goes on":
        assert (state, problem["type"]) == ("failed", "urn:daemonpulse:problem:not-verified")
        assert "its load goes on" in problem["detail"]
    else:
        assert (state, operation["result"]["instance_id"]) == ("done", SMALL)
        assert SMALL in loaded(slow)
    outcomes = [entry for entry in await forge.audit("outcome") if entry["action"] == "load"]
    assert [entry["detail"]["state"] for entry in outcomes] == [state]


@pytest.mark.parametrize("answer", ANSWERS)
async def test_a_load_whose_time_is_up_is_told_as_what_it_came_to(
    start_forge: StartForge, slow: Simulator, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    def react(self: ModelEndpoints, channel: Channel, load: Load) -> None:
        end_soon(self, load)
        ANSWERS[answer](channel)

    on_cancel(monkeypatch, react)
    forge = await start_forge(slow, timeouts=dataclasses.replace(QUICK, load_s=0.3))
    operation = await forge.operation(await begin(forge, slow))
    assert (operation["state"], SMALL in loaded(slow)) == ("done", True), operation


@pytest.mark.parametrize("answer", ["closed", "error"])
async def test_where_rest_tells_nothing_the_daemons_word_is_taken(
    start_forge: StartForge, slow: Simulator, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    def react(self: ModelEndpoints, channel: Channel, load: Load) -> None:
        give_up(self, load)
        ANSWERS[answer](channel)

    on_cancel(monkeypatch, react)
    forge = await start_forge(slow)
    operation_id = await begin(forge, slow)
    slow.faults.html("GET /api/v0/models", status=500)
    assert (await cancel(forge, operation_id))["state"] == "cancelled"


@pytest.mark.parametrize("answer", ANSWERS)
async def test_the_kill_switch_is_not_done_while_a_load_goes_on(
    start_forge: StartForge, slow: Simulator, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    on_cancel(monkeypatch, lambda _self, channel, _load: ANSWERS[answer](channel))
    forge = await start_forge(slow)
    await begin(forge, slow)
    switched = await forge.post("models/eject-all", wait=20)
    assert (switched.status_code, switched.json()["still_loading"]) == (409, [SMALL]), switched.text


async def test_the_kill_switch_ejects_what_another_clients_load_brings_while_it_works(
    start_forge: StartForge, slow: Simulator
) -> None:
    """JIT, `lms load` and the app load without asking here."""
    forge = await start_forge(slow)
    load = slow.daemon.load(SMALL, identifier="theirs", ttl_ms=None, overrides={}, notify=lambda _event: None)
    assert load is not None
    switching = asyncio.create_task(forge.post("models/eject-all", wait=20))
    await until(lambda: not loaded(slow))
    slow.daemon.loader._complete(load)
    assert (await switching).status_code == 200
    assert loaded(slow) == set()


async def begun(forge: Forge, path: str, **query: Any) -> str:
    """Begin a transfer and wait until it goes on."""
    operation_id = str((await forge.post(path, wait=None, **query)).json()["id"])
    live = forge.parts.service.operations.live[operation_id]
    await until(lambda: live.phase == "downloading")
    return operation_id


@pytest.mark.parametrize("answer", ANSWERS)
async def test_a_download_that_arrived_although_it_was_cancelled_is_told_as_done(
    start_forge: StartForge, slow: Simulator, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    def transfer(channel: Channel, *_: object, **__: object) -> None:
        def late(_message: object) -> None:
            arrived = dataclasses.replace(slow.daemon.models[0], key="fresh-7b")
            slow.daemon.models = (*slow.daemon.models, arrived)
            ANSWERS[answer](channel)

        channel.on_message = late

    monkeypatch.setattr(transfer_calls, "transfer", transfer)
    forge = await start_forge(slow)
    operation = await cancel(forge, await begun(forge, "models/download", model=HUB_MODEL))
    assert (operation["state"], operation["result"]) == (
        "done",
        {"model": "fresh-7b", "status": "completed", "size_bytes": 4_680_000_000},
    ), operation


@pytest.mark.parametrize("answer", ["closed", "error"])
async def test_an_engine_that_was_installed_although_it_was_cancelled_is_told_as_done(
    start_forge: StartForge, slow: Simulator, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    def transfer(channel: Channel, *_: object, done: Callable[[], object], **__: object) -> None:
        def late(_message: object) -> None:
            done()
            ANSWERS[answer](channel)

        channel.on_message = late

    monkeypatch.setattr(transfer_calls, "transfer", transfer)
    forge = await start_forge(slow, scope="admin")
    operation_id = await begun(forge, "engines/update", engine=NEW_ENGINE.name, version=NEW_ENGINE.version)
    operation = await cancel(forge, operation_id)
    assert (operation["state"], operation["problem"]) == ("done", None)


async def test_an_engine_that_was_installed_while_the_socket_was_lost_is_told_as_done(
    start_forge: StartForge, slow: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def transfer(channel: Channel, *_: object, done: Callable[[], object], **__: object) -> None:
        done()
        channel.port.hang_up()

    monkeypatch.setattr(transfer_calls, "transfer", transfer)
    forge = await start_forge(slow, scope="admin")
    updated = await forge.post("engines/update", engine=NEW_ENGINE.name, version=NEW_ENGINE.version)
    assert updated.status_code == 200, updated.text
