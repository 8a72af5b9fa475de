"""Replay the client's side of recorded sessions to the simulator: it must answer with frames of the recorded shape.

Shapes, not values: numbers and texts were invented on both sides. What is official to the letter (envelopes, key names,
the order of frames, the words of warnings and refusals) is compared to the letter.
"""

import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from llmster_sim.engine.daemon import Settings
from llmster_sim.server import SimConfig, Simulator
from llmster_sim.wire import sockets
from tests import recorded
from tests.conformance.conftest import SPEED
from tests.conformance.shapes import differences

TOKEN = "sk-lm-Ab3dE6gH:0123456789abcdefghij"


def _kind(frame: dict[str, Any]) -> tuple[Any, ...]:
    message = frame.get("message")
    inner = message.get("type") if isinstance(message, dict) else None
    return frame.get("type", "handshake"), frame.get("callId", frame.get("channelId")), inner


class Replay:
    """One recorded connection, played again. Instance references of the recording become the simulator's own."""

    def __init__(self, socket: ClientConnection, references: dict[str, str]) -> None:
        self._socket = socket
        self._references = references
        self._last: tuple[Any, ...] | None = None

    async def send(self, text: str) -> None:
        for old, new in self._references.items():
            text = text.replace(old, new)
        await self._socket.send(text)

    async def expect(self, expected: dict[str, Any]) -> list[str]:
        """Compare the next frame; progress and fragments may come in any number, only their first is compared."""
        kind = _kind(expected)
        if kind == self._last:
            return []
        actual = json.loads(await self._socket.recv())
        while self._last is not None and _kind(actual) == self._last:
            actual = json.loads(await self._socket.recv())
        self._last = kind
        if _kind(actual) != kind:
            return [f"got {actual} instead of {expected}"]
        self._learn(expected, actual)
        return [f"{kind}: {difference}" for difference in differences(expected, actual)]

    async def expect_close(self) -> None:
        await self._socket.wait_closed()

    def _learn(self, expected: Any, actual: Any) -> None:
        if isinstance(expected, dict) and isinstance(actual, dict):
            if "instanceReference" in expected and "instanceReference" in actual:
                self._references[expected["instanceReference"]] = actual["instanceReference"]
            for key in expected.keys() & actual.keys():
                self._learn(expected[key], actual[key])
        elif isinstance(expected, list) and isinstance(actual, list):
            for old, new in zip(expected, actual, strict=False):
                self._learn(old, new)


async def _replay(sim: Simulator, frames: list[recorded.Frame]) -> list[str]:
    """Play the client's frames of all connections in order and list how the answers differ."""
    found: list[str] = []
    references: dict[str, str] = {}
    connections: dict[int, Replay] = {}
    async with AsyncExitStack() as stack:
        for frame in frames:
            match frame.dir, frame.op:
                case "c2s", "open":
                    socket = await stack.enter_async_context(
                        connect(f"ws://127.0.0.1:{sim.port}{frame.data}")
                    )
                    connections[frame.conn] = Replay(socket, references)
                case "c2s", "text":
                    await connections[frame.conn].send(frame.data)
                case "s2c", "text":
                    found += await connections[frame.conn].expect(frame.json)
                case "s2c", "close" if not _closed_by_client(frames, frame):
                    await connections[frame.conn].expect_close()
                case _:
                    continue
    return found


def _closed_by_client(frames: list[recorded.Frame], close: recorded.Frame) -> bool:
    first = next(f for f in frames if f.conn == close.conn and f.op == "close")
    return first.dir == "c2s"


def _config(**changes: Any) -> SimConfig:
    settings = Settings(guardrail="off")
    return SimConfig(
        **{"seed": 7, "scenario": "idle", "speed": SPEED, "port": 0, "settings": settings, **changes}
    )


ABSENT = {"09": ("qwen/qwen3-8b",)}
"""Instances of the scenario that were not loaded when a session was recorded: it loads onto the GPU they hold."""


@pytest.mark.parametrize("name", ["01", "05", "06", "08", "09", "13", "14", "17"])
async def test_simulator_answers_a_recorded_session_frame_by_frame(name: str) -> None:
    async with Simulator(_config()) as sim:
        for identifier in ABSENT.get(name, ()):
            sim.daemon.unload(identifier)
        assert await _replay(sim, recorded.frames(name)) == []


async def test_simulator_words_its_refusals_as_recorded() -> None:
    frames = recorded.frames("12")
    injected = next(index for index, frame in enumerate(frames) if "Injected failure" in frame.data)
    async with Simulator(_config()) as sim:
        assert await _replay(sim, frames[: injected - 1]) == []


async def test_simulator_refuses_handshakes_without_the_token_as_recorded() -> None:
    async with Simulator(_config(token=TOKEN)) as sim:
        assert await _replay(sim, [f for f in recorded.frames("03") if f.conn in {1, 2}]) == []
        assert await _replay(sim, recorded.frames("02")) == []


async def test_simulator_gives_up_on_a_malformed_handshake_as_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sockets, "_HANDSHAKE_S", 0.1)  # ten seconds of real time on a daemon
    async with Simulator(_config()) as sim:
        assert await _replay(sim, recorded.frames("04")) == []


async def test_simulator_refuses_a_second_passkey_as_recorded() -> None:
    async with Simulator(_config()) as sim:
        assert await _replay(sim, [f for f in recorded.frames("03") if f.conn in {3, 4}]) == []


async def test_replay_notices_an_answer_that_is_not_as_recorded() -> None:
    async with Simulator(_config()) as sim:
        sim.faults.alter("system.version", lambda result: {"version": result["version"], "extra": True})
        (missing, stray) = await _replay(sim, recorded.frames("01"))
    assert missing.endswith(".result.build is missing")
    assert stray.endswith(".result.extra is too much")
