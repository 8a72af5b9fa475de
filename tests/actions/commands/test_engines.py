"""Engines: who may, what is selected, and an update with progress that can be cancelled."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from llmster_sim.models import catalogue
from llmster_sim.server import SimConfig, Simulator
from llmster_sim.wire.transfer_calls import NEW_ENGINE
from tests.actions.commands.test_load_cost import until
from tests.actions.conftest import Forge, StartForge

NAME, OLDER = catalogue.LLAMA_OLDER.name, catalogue.LLAMA_OLDER.version


@pytest.fixture
async def admin(start_forge: StartForge, sim: Simulator) -> Forge:
    return await start_forge(sim, scope="admin")


async def selected(forge: Forge) -> dict[str, str]:
    """Version selected by model format."""
    listed = (await forge.http.get(forge.path("engines"))).json()["engines"]
    return {name: one["version"] for one in listed for name in one["selected_for"]}


async def test_engines_are_listed_with_what_is_selected_and_offered(admin: Forge) -> None:
    answer = (await admin.http.get(admin.path("engines"), params={"search": "llama.cpp"})).json()
    assert {(one["engine"], one["version"]) for one in answer["engines"]} >= {(NAME, OLDER)}
    assert answer["available"] == [
        {"engine": NEW_ENGINE.name, "version": NEW_ENGINE.version, "installed": False}
    ]
    assert (await selected(admin))["GGUF"] == catalogue.LLAMA_SERVER.version


async def test_selecting_an_engine_needs_admin_and_is_audited(admin: Forge, sim: Simulator) -> None:
    wanted: dict[str, Any] = {"engine": NAME, "version": OLDER, "model_format": "GGUF"}
    refused = await admin.post(
        "engines/select", headers={"Authorization": f"Bearer {await admin.token('operate')}"}, **wanted
    )
    assert refused.status_code == 403
    assert sim.calls["runtime", "selectEngine"] == 0
    done = await admin.post("engines/select", reason="2.41 crashes", **wanted)
    assert done.status_code == 200, done.text
    assert (await selected(admin))["GGUF"] == OLDER
    (intent,) = await admin.audit("intent")
    assert (intent["action"], intent["subject"]) == ("select_engine", NAME)


@pytest.mark.parametrize(
    ("changed", "status", "words"),
    [
        ({"version": "0.0.1"}, 404, OLDER),
        ({"model_format": "MLX"}, 422, "supports GGUF"),
    ],
)
async def test_an_engine_that_does_not_suit_is_refused(
    admin: Forge, changed: dict[str, str], status: int, words: str
) -> None:
    wanted = {"engine": NAME, "version": OLDER, "model_format": "GGUF", **changed}
    refused = await admin.http.post(admin.path("engines/select"), params=wanted)
    assert (refused.status_code, words in refused.text) == (status, True)


async def test_an_update_is_followed_and_selected(admin: Forge) -> None:
    done = await admin.post("engines/update", engine=NEW_ENGINE.name, version=NEW_ENGINE.version)
    assert done.status_code == 200, done.text
    assert done.json()["result"]["selected_for"] == ["GGUF"]
    assert (await selected(admin))["GGUF"] == NEW_ENGINE.version
    unknown = await admin.post("engines/update", engine=NEW_ENGINE.name, version="9")
    assert unknown.status_code == 404


@pytest.fixture
async def slow() -> AsyncIterator[Simulator]:
    async with Simulator(SimConfig(scenario="idle", manual_clock=True)) as simulator:
        yield simulator


async def test_an_update_can_be_cancelled(start_forge: StartForge, slow: Simulator) -> None:
    forge = await start_forge(slow, scope="admin")
    begun = (
        await forge.post("engines/update", wait=None, engine=NEW_ENGINE.name, version=NEW_ENGINE.version)
    ).json()
    live = forge.parts.service.operations.live[begun["id"]]
    await until(lambda: slow.calls["runtime", "downloadRuntimeExtension"])
    slow.clock.advance(5)
    await until(lambda: live.progress)
    await forge.http.post(f"/v1/operations/{begun['id']}/cancel")
    assert (await forge.operation(begun["id"]))["state"] == "cancelled"
    slow.clock.advance(600)
    await asyncio.sleep(0)
    assert (await selected(forge))["GGUF"] == catalogue.LLAMA_SERVER.version


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_an_update_whose_messages_cannot_be_read_is_followed_to_its_end(
    start_forge: StartForge, slow: Simulator, *, is_cancelled: bool
) -> None:
    slow.faults.alter("runtime.downloadRuntimeExtension", lambda message: {**message, "type": None})
    forge = await start_forge(slow, scope="admin")
    begun = (
        await forge.post("engines/update", wait=None, engine=NEW_ENGINE.name, version=NEW_ENGINE.version)
    ).json()
    counts = forge.parts.service.daemons[forge.name].client.counts
    await until(lambda: counts.unreadable["download"])
    if is_cancelled:
        await forge.http.post(f"/v1/operations/{begun['id']}/cancel")
        assert (await forge.operation(begun["id"]))["state"] == "cancelled"
    slow.clock.advance(600)
    await asyncio.sleep(0)
    ended = await forge.operation(begun["id"])
    assert ended["state"] == ("cancelled" if is_cancelled else "done")
    version = catalogue.LLAMA_SERVER.version if is_cancelled else NEW_ENGINE.version
    assert (await selected(forge))["GGUF"] == version
