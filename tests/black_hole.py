"""An address that answers nothing, and a host name that leads to it first and then to one that works."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

HOST = "two-addresses.test"


@contextlib.contextmanager
def black_hole(port: int = 0) -> Iterator[tuple[str, int]]:
    """Give an address that answers no SYN: a listener whose backlog is full drops them."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.2", port))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        yield listener.getsockname()


@contextlib.contextmanager
def first_address_dead(port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give a host name with two addresses: a black hole, then 127.0.0.1, where something listens on `port`."""
    ask = socket.getaddrinfo

    def both(host: Any, *more: Any, **options: Any) -> Any:
        if host not in {HOST, HOST.encode()}:
            return ask(host, *more, **options)
        return [found for place in (hole, "127.0.0.1") for found in ask(place, *more, **options)]

    with black_hole(port) as (hole, _):
        monkeypatch.setattr(socket, "getaddrinfo", both)
        yield HOST
