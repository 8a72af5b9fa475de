"""The front door on its own: which Host headers are ours, and announced lengths that are no numbers."""

from collections.abc import MutableMapping
from typing import Any

import pytest

from actions.api.middleware import RequestGuard
from exporter.shared.host_header import LOOPBACK_NAMES


async def status(**headers: bytes) -> int:
    """Return what a request with these headers is answered; 200 stands for being passed on."""
    statuses: list[int] = []

    async def app(*_: object) -> None:
        statuses.append(200)

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: MutableMapping[str, Any]) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    listed = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
    await RequestGuard(app, hosts=LOOPBACK_NAMES)(
        {"type": "http", "method": "GET", "headers": listed, "path": "/v1/x"}, receive, send
    )
    [only] = statuses
    return only


@pytest.mark.parametrize(
    "host", [b"localhost", b"LocalHost:9811", b"127.0.0.1:1", b"[::1]", b"[::1]:9811", b"[::1]:"]
)
async def test_our_names_are_let_in_with_and_without_a_port(host: bytes) -> None:
    assert await status(host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"evil.org",
        b"localhost.evil.org",
        b"localhost:80@evil.org",
        b"[::1]evil.org",
        b"[::1",
        b"localhost:x",
        b"\xb2",
    ],
)
async def test_nothing_hides_behind_one_of_our_names(host: bytes) -> None:
    assert await status(host=host) == 421


@pytest.mark.parametrize("length", [b"\xb2", b"-1", b"1e9", b"many"])
async def test_a_length_that_is_no_number_is_not_believed_and_breaks_nothing(length: bytes) -> None:
    assert await status(host=b"localhost", content_length=length) == 200


async def test_a_body_announced_as_too_large_is_turned_away() -> None:
    assert await status(host=b"localhost", content_length=b"65537") == 413
