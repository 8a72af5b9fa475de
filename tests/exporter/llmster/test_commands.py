"""Commands on the wire: the frames official clients send, and every way a load can end."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actions.domain.command import Load
from exporter.llmster.client import DaemonClient
from exporter.llmster.commands import DaemonCommands, LoadRequest
from exporter.llmster.errors import CallFailed, ConnectionLost, DaemonStalled, ProtocolViolation
from llmster_sim import errors
from llmster_sim.server import SimConfig, Simulator

FIXTURES = Path(__file__).parents[2] / "fixtures" / "protocol"
SMALL = LoadRequest("qwen/qwen3-0.6b")


def recorded(file: str, endpoint: str) -> list[dict[str, Any]]:
    """What the official client sent to an endpoint."""
    found = []
    for line in (FIXTURES / file).read_text(encoding="utf-8").splitlines():
        frame = json.loads(line)
        if frame["op"] == "text" and frame["dir"] == "c2s":
            message = json.loads(frame["data"])
            if message.get("endpoint") == endpoint:
                found.append(message.get("creationParameter") or message.get("parameter"))
    return found


def fields(parameter: dict[str, Any]) -> dict[str, Any]:
    (layer,) = parameter["loadConfigStack"]["layers"]
    assert layer["layerName"] == "apiOverride"
    return {pair["key"]: pair["value"] for pair in layer["config"]["fields"]}


def test_a_load_is_written_as_the_official_client_writes_it() -> None:
    (official,) = recorded("09-load-getLoadConfig-unload.jsonl", "loadModel")
    command = Load(
        daemon="d",
        model="openai/gpt-oss-20b",
        instance_id="oss",
        ttl_seconds=600,
        options={
            "context_length": 16384,
            "gpu_offload": 0.5,
            "split": "priorityOrder",
            "disabled_gpus": (0,),
            "gpu_priority": (1,),
            "parallel": 2,
            "flash_attention": True,
        },
    )
    request = command.request("llm", None)
    assert request.identifier == official["identifier"]
    assert request.ttl_ms == official["ttlMs"]
    ours = fields({"loadConfigStack": request.stack()})
    assert ours == {key: fields(official)[key] for key in ours}
    assert request.stack()["layers"][0].keys() == official["loadConfigStack"]["layers"][0].keys()


def test_an_embedding_load_is_written_as_the_official_client_writes_it() -> None:
    official = recorded("08-estimateModelUsage.jsonl", "estimateModelUsage")[-1]
    command = Load(daemon="d", model=official["modelKey"], options={"context_length": 2048})
    assert command.request("embedding", None).stack() == official["loadConfigStack"]


def test_a_load_that_says_nothing_is_an_empty_stack() -> None:
    (official, _) = recorded("15-load-failed.jsonl", "loadModel")
    assert LoadRequest("openai/gpt-oss-20b").stack() == official["loadConfigStack"]


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(SimConfig(scenario="idle", manual_clock=True)) as simulator:
        yield simulator


@pytest.fixture
async def commands(sim: Simulator) -> AsyncIterator[DaemonCommands]:
    client = DaemonClient(name="box", url=sim.url)
    running = asyncio.create_task(client.run())
    await client.connected()
    yield DaemonCommands(client)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def begun(sim: Simulator) -> None:
    async with asyncio.timeout(5):
        while not sim.daemon.loader.loads:  # noqa: ASYNC110 - it happens in the simulator
            await asyncio.sleep(0.01)


def load(
    commands: DaemonCommands,
    *,
    progress: list[float] | None = None,
    cancel: asyncio.Event | None = None,
    timeout_s: float = 10,
) -> asyncio.Task[Any]:
    return asyncio.create_task(
        commands.load(
            SMALL,
            on_progress=(progress if progress is not None else []).append,
            cancel=cancel or asyncio.Event(),
            timeout_s=timeout_s,
            cancel_timeout_s=0.2,
        )
    )


async def test_a_load_tells_its_progress_and_what_was_loaded(
    commands: DaemonCommands, sim: Simulator
) -> None:
    progress: list[float] = []
    loading = load(commands, progress=progress)
    await begun(sim)
    sim.clock.advance(60)
    info = await loading
    assert (info.identifier, info.type) == (SMALL.model_key, "llm")
    assert progress == sorted(progress)
    assert (progress[0], progress[-1]) == (0.0, 1.0)
    config = await commands.load_config(info)
    assert config["llm.load.numParallelSessions"] == 4
    await commands.unload(info)
    with pytest.raises(CallFailed) as gone:
        await commands.unload(info)
    assert gone.value.code == "generic.identifierNotFound"


async def test_a_cancelled_load_is_none(commands: DaemonCommands, sim: Simulator) -> None:
    cancel = asyncio.Event()
    loading = load(commands, cancel=cancel)
    await begun(sim)
    cancel.set()
    assert await loading is None
    assert not sim.daemon.loader.loads


async def test_a_cancel_that_is_not_answered_is_a_stalled_daemon(
    commands: DaemonCommands, sim: Simulator
) -> None:
    sim.faults.hang("llm.loadModel")
    cancel = asyncio.Event()
    loading = load(commands, cancel=cancel)
    cancel.set()
    with pytest.raises(DaemonStalled, match="cancel"):
        await loading


async def test_a_load_beyond_its_time_is_cancelled_at_the_daemon_too(
    commands: DaemonCommands, sim: Simulator
) -> None:
    loading = load(commands, timeout_s=0.2)
    await begun(sim)
    with pytest.raises(TimeoutError):
        await loading
    async with asyncio.timeout(5):
        while sim.daemon.loader.loads:  # noqa: ASYNC110 - the cancel is on its way
            await asyncio.sleep(0.01)


async def test_a_refused_load_brings_the_daemons_words_and_no_stack(
    commands: DaemonCommands, sim: Simulator
) -> None:
    sim.daemon.next_load_failure = errors.out_of_memory()
    with pytest.raises(CallFailed, match="CUDA error: out of memory") as refused:
        await load(commands)
    assert "at " not in str(refused.value)


async def test_a_socket_that_breaks_is_told_from_a_refusal(commands: DaemonCommands, sim: Simulator) -> None:
    loading = load(commands)
    await begun(sim)
    sim.faults.drop_connections()
    with pytest.raises(ConnectionLost):
        await loading


async def test_a_channel_that_ends_without_saying_how_is_a_violation(
    commands: DaemonCommands, sim: Simulator
) -> None:
    sim.faults.raw("llm.loadModel", '{"type":"channelClose","channelId":{id}}')
    with pytest.raises(ProtocolViolation, match="without saying how"):
        await load(commands)


async def test_unknown_messages_of_a_load_are_ignored(commands: DaemonCommands, sim: Simulator) -> None:
    sim.faults.alter(
        "llm.loadModel", lambda message: {**message, "type": "warmup"} if "progress" in message else message
    )
    loading = load(commands)
    await begun(sim)
    sim.clock.advance(60)
    assert (await loading).identifier == SMALL.model_key


def unreadable(message: dict[str, Any]) -> dict[str, Any]:
    """Take away what every message of a channel has."""
    return {key: value for key, value in message.items() if key != "type"}


async def test_a_load_whose_messages_cannot_be_read_is_followed_to_its_end(
    commands: DaemonCommands, sim: Simulator
) -> None:
    sim.faults.alter("llm.loadModel", unreadable)
    loading = load(commands)
    await begun(sim)
    sim.clock.advance(60)
    with pytest.raises(ProtocolViolation, match="without saying how"):
        await loading
    assert SMALL.model_key in {instance.identifier for instance in sim.daemon.loaded}
    assert commands.client.counts.unreadable["load"] > 1


async def test_a_load_whose_messages_cannot_be_read_can_be_cancelled(
    commands: DaemonCommands, sim: Simulator
) -> None:
    sim.faults.alter("llm.loadModel", unreadable)
    cancel = asyncio.Event()
    loading = load(commands, cancel=cancel)
    async with asyncio.timeout(5):
        while not commands.client.counts.unreadable["load"]:  # noqa: ASYNC110 - it happens in the client
            await asyncio.sleep(0.01)
    cancel.set()
    assert await loading is None
    assert not sim.daemon.loader.loads


async def test_an_estimate_is_read_as_recorded(commands: DaemonCommands, sim: Simulator) -> None:
    estimate = await commands.estimate(SMALL)
    wire = sim.daemon.estimate(key=SMALL.model_key, overrides={})
    assert estimate.memory.total_vram_bytes == wire["memory"]["totalVramBytes"]
    assert estimate.passes_guardrails is True
    with pytest.raises(CallFailed):
        await commands.estimate(LoadRequest("nobody/nothing"))
    sim.faults.wrong_types("llm.estimateModelUsage")
    with pytest.raises(ProtocolViolation):
        await commands.estimate(SMALL)
