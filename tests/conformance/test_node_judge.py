"""The judge is judged: against a daemon that is wrong on purpose it must say what is wrong."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from tests.conformance.node_judge import judge

pytestmark = [pytest.mark.external("node"), pytest.mark.external("@lmstudio/sdk")]

VERSION = {"version": "0.4.24", "build": 1}


@asynccontextmanager
async def _daemon(*answers: dict[str, Any]) -> AsyncIterator[str]:
    """Serve a daemon that lets everyone in and sends these frames for the first call of each connection."""

    async def handle(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(json.dumps({"success": True}))
        await socket.recv()
        for answer in answers:
            await socket.send(json.dumps(answer))
        await socket.wait_closed()

    async with serve(handle, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


async def _version(*answers: dict[str, Any]) -> Any:
    async with _daemon(*answers, {"type": "rpcResult", "callId": 0, "result": VERSION}) as url:
        return (await judge("version", url)).accept()


async def test_judge_accepts_a_daemon_that_answers_by_the_schema() -> None:
    assert await _version() == VERSION


async def test_judge_reports_a_field_that_the_schema_does_not_know() -> None:
    answer = {"type": "rpcResult", "callId": 0, "result": {**VERSION, "surprise": 1}}
    async with _daemon(answer) as url:
        verdict = await judge("version", url)
    assert verdict.result == VERSION
    assert verdict.schema == ("system.version: .surprise",)
    with pytest.raises(AssertionError, match="surprise"):
        verdict.accept()


async def test_judge_reports_a_result_that_the_schema_refuses() -> None:
    wrong = {"type": "rpcResult", "callId": 0, "result": {"version": "0.4.24"}}
    with pytest.raises(AssertionError, match="build: Required"):
        await _version(wrong)


async def test_judge_reports_a_stray_key_in_the_envelope() -> None:
    stray = {"type": "rpcResult", "callId": 0, "result": VERSION, "endpoint": "version"}
    async with _daemon(stray) as url:
        assert (await judge("version", url)).schema == ("system.rpcResult: .endpoint",)


async def test_judge_reports_a_warning_that_the_daemon_sends() -> None:
    warning = {"type": "communicationWarning", "warning": "no such endpoint", "kind": "rpcEndpointUnknown"}
    with pytest.raises(AssertionError, match="no such endpoint"):
        await _version(warning)


async def test_judge_reports_an_answer_to_a_call_nobody_made() -> None:
    with pytest.raises(AssertionError, match="unknown rpc, callId = 7"):
        await _version({"type": "rpcResult", "callId": 7, "result": VERSION})


async def test_judge_reports_a_frame_that_is_no_envelope() -> None:
    with pytest.raises(AssertionError, match="Received invalid message from server"):
        await _version({"type": "surprise"})


async def test_judge_reports_error_details_that_the_sdk_drops_in_silence() -> None:
    error = {"title": "No", "displayData": {"code": "generic.identifierNotFound", "identifier": "x"}}
    async with _daemon({"type": "rpcError", "callId": 0, "error": error}) as url:
        verdict = await judge("version", url)
    assert verdict.schema == ("system.rpcError: .error.displayData",)
    assert verdict.crash is not None


async def test_judge_demands_the_complaints_it_was_told_to_expect() -> None:
    async with _daemon({"type": "rpcResult", "callId": 0, "result": VERSION}) as url:
        verdict = await judge("version", url)
    with pytest.raises(AssertionError, match="that never happened"):
        verdict.accept(complaints=["that never happened"])
