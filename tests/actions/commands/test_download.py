"""Downloads: progress, cancel, the disk, and a view that goes on after a restart; over the WebSocket and over REST."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actions.commands.daemon_session import DaemonSession
from llmster_sim.server import SimConfig, Simulator
from llmster_sim.wire.transfer_calls import HUB_MODEL, HUB_SIZES
from tests.actions.commands.test_load_cost import until
from tests.actions.conftest import SMALL, Forge, StartForge

SIZE = HUB_SIZES["Q4_K_M"]


@pytest.fixture
async def slow() -> AsyncIterator[Simulator]:
    """A daemon whose downloads go on until a test lets time pass."""
    async with Simulator(SimConfig(scenario="idle", manual_clock=True)) as simulator:
        yield simulator


async def begin(forge: Forge, slow: Simulator) -> str:
    """Begin a download, and wait until the daemon has begun it: its clock stands still until then."""
    begun = await forge.post("models/download", wait=None, model=HUB_MODEL)
    assert begun.status_code == 202, begun.text
    await until(lambda: slow.calls["repository", "downloadModel"])
    return str(begun.json()["id"])


async def test_a_model_of_the_hub_is_downloaded_with_progress(
    start_forge: StartForge, slow: Simulator
) -> None:
    forge = await start_forge(slow)
    operation_id = await begin(forge, slow)
    slow.clock.advance(60)
    live = forge.parts.service.operations.live[operation_id]
    await until(lambda: live.progress and live.progress > 0.2)
    assert live.progress is not None
    assert live.progress < 1
    slow.clock.advance(600)
    operation = await forge.operation(operation_id)
    assert operation["state"] == "done"
    assert operation["result"] == {"model": "fresh-7b", "status": "completed", "size_bytes": SIZE}


async def test_a_download_is_cancelled_on_its_channel(start_forge: StartForge, slow: Simulator) -> None:
    forge = await start_forge(slow)
    operation_id = await begin(forge, slow)
    response = await forge.http.post(f"/v1/operations/{operation_id}/cancel")
    assert response.status_code in {200, 202}, response.text
    assert (await forge.operation(operation_id))["state"] == "cancelled"


async def test_the_quantization_chooses_the_files_and_an_unknown_one_is_refused(
    forge: Forge,
) -> None:
    done = await forge.post("models/download", model=HUB_MODEL, quantization="q8_0")
    assert done.json()["result"]["size_bytes"] == HUB_SIZES["Q8_0"]
    refused = await forge.post("models/download", model=HUB_MODEL, quantization="Q1")
    assert (refused.status_code, "Q4_K_M" in refused.text) == (404, True)


@pytest.mark.parametrize(("free", "status"), [(SIZE, 409), (SIZE + 2**30 - 1, 409), (SIZE + 2**30, 200)])
async def test_a_download_that_the_disk_cannot_hold_is_refused_before_it_begins(
    forge: Forge, sim: Simulator, monkeypatch: pytest.MonkeyPatch, free: int, status: int
) -> None:
    monkeypatch.setattr(DaemonSession, "free_disk", lambda _self: free)
    response = await forge.post("models/download", model=HUB_MODEL)
    assert response.status_code == status, response.text
    if status == 409:
        assert response.json()["type"] == "urn:daemonpulse:problem:disk-full"
        assert (response.json()["size_bytes"], response.json()["free_bytes"]) == (SIZE, free)
        assert sim.calls["repository", "downloadModel"] == 0
        (denied,) = await forge.audit("denied")
        assert denied["detail"]["rule"] == "disk-full"


def test_the_free_disk_is_that_of_the_daemons_home(tmp_path: Path) -> None:
    def session(home: Path | None) -> DaemonSession:
        nothing: Any = None
        return DaemonSession(nothing, memory=nothing, history=nothing, home=home)

    assert session(None).free_disk() is None
    assert session(tmp_path / "gone").free_disk() is None
    found = session(tmp_path).free_disk()
    assert found is not None
    assert found > 0


async def test_the_view_goes_on_after_a_restart_by_what_is_on_the_disk(
    start_forge: StartForge, slow: Simulator
) -> None:
    first = await start_forge(slow)
    operation_id = await begin(first, slow)
    first.task.cancel()
    await asyncio.wait({first.task})
    second = await start_forge(slow)
    live = second.parts.service.operations.live[operation_id]
    await until(lambda: "progress is not known" in live.phase)
    refused = await second.http.post(f"/v1/operations/{operation_id}/cancel")
    assert refused.status_code == 409
    model = dataclasses.replace(slow.daemon.models[0], key="fresh-7b")
    slow.daemon.models = (*slow.daemon.models, model)
    operation = await second.operation(operation_id)
    assert operation["state"] == "done", operation
    assert operation["result"]["model"] == "fresh-7b"
    assert slow.calls["repository", "downloadModel"] == 1


async def test_a_download_shows_progress_and_ends(forge: Forge) -> None:
    begun = await forge.post("models/download", wait=None, model="new/model")
    live = forge.parts.service.operations.live[begun.json()["id"]]
    async with asyncio.timeout(10):
        while not live.progress:  # noqa: ASYNC110 - the daemon downloads
            await asyncio.sleep(0.005)
    assert 0 < live.progress < 1
    assert live.before["job_id"].startswith("job_")
    operation = await forge.done(begun)
    assert operation["result"]["status"] == "completed"
    assert operation["result"]["size_bytes"] > 0


async def test_what_is_on_disk_is_not_downloaded_again(forge: Forge) -> None:
    response = await forge.post("models/download", model=SMALL)
    assert response.json()["result"]["status"] == "already_downloaded"


async def test_a_download_over_rest_cannot_be_cancelled_and_that_is_said(
    forge: Forge, sim: Simulator
) -> None:
    sim.clock.speed = 1.0
    begun = (await forge.post("models/download", wait=None, model="new/model")).json()
    response = await forge.http.post(f"/v1/operations/{begun['id']}/cancel")
    assert response.status_code == 409
    assert response.json()["type"] == "urn:daemonpulse:problem:not-cancellable"


async def test_a_download_survives_a_daemon_that_cannot_be_asked_for_a_while(
    forge: Forge, sim: Simulator
) -> None:
    sim.faults.html("GET /api/v1/models/download/*", status=200, times=1)
    response = await forge.post("models/download", model="new/model")
    assert response.status_code == 200, response.text
    sim.clock.speed = 20.0
    begun = await forge.post("models/download", wait=None, model="other/model")
    live = forge.parts.service.operations.live[begun.json()["id"]]
    async with asyncio.timeout(10):
        while "job_id" not in live.before:  # noqa: ASYNC110 - seen only by looking
            await asyncio.sleep(0.005)
    await sim.stop()
    await sim.start()
    operation = await forge.done(begun)
    assert operation["state"] == "done", operation
