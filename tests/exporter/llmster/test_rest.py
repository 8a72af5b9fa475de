"""REST over a real socket: bodies are checked, because HTTP 200 proves nothing here."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from exporter.llmster import rest
from exporter.llmster.errors import (
    AuthenticationRefused,
    CallFailed,
    DaemonStalled,
    DaemonUnreachable,
    LlmsterError,
    NotLlmster,
    ProtocolViolation,
)
from tests.black_hole import first_address_dead
from tests.exporter.llmster.scripted import raw_server, tcp_server
from tests.exporter.llmster.wire.test_transport import free_port
from tests.recorded import exchanges

TOKEN = "sk-lm-Ab3dE6gH:0123456789abcdefghij"
EXCHANGES = exchanges()


@dataclass
class Server:
    """Answers recorded exchanges (or any bytes) by path, and keeps the requests it saw."""

    answers: dict[str, bytes]
    url: str = ""
    requests: list[str] = field(default_factory=list)


def recorded(*names: str) -> dict[str, bytes]:
    """Return the answers of recorded GET exchanges by path."""
    found = {}
    for name in names:
        response = EXCHANGES[name]["response"]
        found[EXCHANGES[name]["request"]["path"]] = answer(
            response["body"], status=response["status"], content_type=response["content_type"]
        )
    return found


def answer(body: Any, *, status: int = 200, content_type: str = "application/json") -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} x\r\nContent-Type: {content_type}\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


@contextlib.asynccontextmanager
async def serving(answers: dict[str, bytes]) -> AsyncIterator[Server]:
    server = Server(answers)

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        server.requests.append(request)
        writer.write(server.answers[request.split()[1]])
        await writer.drain()

    async with tcp_server(respond) as port:
        server.url = f"http://127.0.0.1:{port}"
        yield server


async def test_the_recorded_greeting_is_a_greeting() -> None:
    async with serving(recorded("greeting")) as server:
        assert await rest.greets(server.url + "/", timeout_s=10)


@pytest.mark.parametrize(
    "reply",
    [
        answer({"lmstudio": "true"}),
        answer({"error": "Unexpected endpoint or method. (GET /lmstudio-greeting)"}),
        answer([]),
        answer(b"<html>", content_type="text/html"),
        answer({}, status=401),
        answer({}, status=500),
        answer(b"[" * 50_000),
        answer(b'{"a":"\xff"}'),
    ],
)
async def test_no_other_answer_is_a_greeting(reply: bytes) -> None:
    async with serving({"/lmstudio-greeting": reply}) as server:
        assert not await rest.greets(server.url, timeout_s=10)


async def test_what_does_not_speak_http_does_not_greet() -> None:
    async with raw_server(b"SSH-2.0-OpenSSH_9.2\r\n\r\n") as port:
        assert not await rest.greets(f"http://127.0.0.1:{port}", timeout_s=10)


async def test_the_recorded_status_models_and_states_are_read() -> None:
    async with serving(recorded("status", "v1 models", "v0 models")) as server:
        status = await rest.status(server.url, timeout_s=10)
        models = await rest.models(server.url, token=None, timeout_s=10)
        states = await rest.model_states(server.url, token=None, timeout_s=10)

    assert (status.package, status.version) == ("llmster", "0.4.24+1")
    told = EXCHANGES["v1 models"]["response"]["body"]["models"]
    assert [model.key for model in models] == [model["key"] for model in told]
    assert [[each.id for each in model.loaded_instances] for model in models] == [
        [each["id"] for each in model["loaded_instances"]] for model in told
    ]
    assert {state.state for state in states} <= {"not-loaded", "loading", "loaded"}


async def test_the_token_is_sent_as_a_bearer_and_only_where_it_is_wanted() -> None:
    async with serving(recorded("v1 models", "greeting", "status")) as server:
        await rest.models(server.url, token=TOKEN, timeout_s=10)
        await rest.greets(server.url, timeout_s=10)
        await rest.status(server.url, timeout_s=10)
        await rest.requires_token(server.url, timeout_s=10)

    assert [TOKEN in request for request in server.requests] == [True, False, False, False]
    assert f"Authorization: Bearer {TOKEN}" in server.requests[0]


async def test_a_recorded_401_says_that_a_token_is_required() -> None:
    async with serving(recorded("401")) as server:
        assert await rest.requires_token(server.url, timeout_s=10)
        with pytest.raises(AuthenticationRefused, match="API token is required"):
            await rest.models(server.url, token=TOKEN, timeout_s=10)


async def test_models_without_a_token_say_that_none_is_required() -> None:
    async with serving(recorded("v1 models")) as server:
        assert not await rest.requires_token(server.url, timeout_s=10)


@pytest.mark.parametrize(
    ("reply", "error", "told"),
    [
        (answer({"error": "Unexpected endpoint or method. (GET /x)"}), CallFailed, "Unexpected endpoint"),
        (answer({"error": {"message": "m", "code": "c"}}, status=400), CallFailed, "m"),
        (answer({"error": {"message": 5, "code": 5}}, status=400), CallFailed, "HTTP 400"),
        (answer({}, status=500), CallFailed, "HTTP 500"),
        (answer(b"<html>oops</html>", status=500), NotLlmster, "HTTP 500 and no JSON"),
        (answer(b"[" * 50_000), NotLlmster, "no JSON"),
        (answer(b'"\xff"'), NotLlmster, "no JSON"),
        (answer({"models": 5}), ProtocolViolation, "unexpected"),
        (answer([]), ProtocolViolation, "unexpected"),
        (answer({"models": [{"key": 5}]}), ProtocolViolation, "unexpected"),
    ],
)
async def test_every_odd_answer_has_its_error(reply: bytes, error: type[LlmsterError], told: str) -> None:
    async with serving({"/api/v1/models": reply}) as server:
        with pytest.raises(error, match=told) as caught:
            await rest.models(server.url, token=TOKEN, timeout_s=10)

    assert TOKEN not in repr(caught.value)


async def test_an_error_object_keeps_its_code() -> None:
    async with serving({"/api/v1/models": answer({"error": {"message": "m", "code": "c"}})}) as server:
        with pytest.raises(CallFailed) as caught:
            await rest.models(server.url, token=None, timeout_s=10)

    assert (caught.value.title, caught.value.code) == ("m", "c")


async def test_nobody_listening_is_unreachable() -> None:
    with pytest.raises(DaemonUnreachable):
        await rest.status(f"http://127.0.0.1:{free_port()}", timeout_s=10)


async def test_a_server_that_says_nothing_is_stalled() -> None:
    async with raw_server(None) as port:
        with pytest.raises(DaemonStalled, match=r"did not answer within 0\.05 s"):
            await rest.status(f"http://127.0.0.1:{port}", timeout_s=0.05)


async def test_an_answer_that_comes_byte_by_byte_does_not_outlast_the_timeout() -> None:
    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            writer.write(b" ")
            await asyncio.sleep(0.005)

    async with tcp_server(drip) as port:
        with pytest.raises(DaemonStalled):
            await rest.status(f"http://127.0.0.1:{port}", timeout_s=0.1)


async def test_a_connection_that_is_never_made_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("anyio.connect_tcp", never)

    with pytest.raises(DaemonUnreachable, match="no connection"):
        await rest.status("http://127.0.0.1:1", timeout_s=2)


async def test_a_first_address_that_answers_nothing_does_not_hide_a_second_that_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(recorded("greeting")) as server:
        port = int(server.url.rsplit(":", 1)[1])
        with first_address_dead(port, monkeypatch) as host:
            assert await rest.greets(f"http://{host}:{port}", timeout_s=2)


@pytest.mark.parametrize(
    ("capabilities", "reasons"),
    [
        (None, False),
        ({"vision": True, "trained_for_tool_use": True}, False),
        ({"reasoning": {"allowed_options": ["off", "on"], "default": "on"}}, True),
        ({"reasoning": {"allowed_options": ["off", "low", "high"], "default": "off"}}, True),
        ({"reasoning": {"allowed_options": ["off"]}}, False),
        ({"reasoning": {"allowed_options": "on"}}, False),
        ({"reasoning": None}, False),
        ([], False),
    ],
)
def test_a_model_reasons_where_its_capabilities_allow_it(capabilities: Any, *, reasons: bool) -> None:
    assert rest.RestModel("m", (), capabilities).reasons is reasons
