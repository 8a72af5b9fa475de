"""A relay with an observer before a port of this host, in this process."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from exporter.catalogue import tap as m
from exporter.tap.clients import Clients
from exporter.tap.exchange import Clocks
from exporter.tap.observer import ConnectionObserver
from exporter.tap.registry import Registry
from exporter.tap.relay import Relay
from exporter.tap.report import Report

LIMIT_S = 10.0


async def until(holds: Callable[[], object]) -> None:
    """Wait for something that other tasks bring about."""
    async with asyncio.timeout(LIMIT_S):
        while not holds():  # noqa: ASYNC110 - what is waited for is many things' doing
            await asyncio.sleep(0.005)


@dataclass
class Tapped:
    """What a test needs of a tap."""

    port: int
    relay: Relay
    registry: Registry

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reports(self) -> list[Report]:
        return list(self.registry._reports)

    def predictions(self) -> list[Report]:
        return [report for report in self.reports() if report.is_prediction]

    async def settled(self) -> None:
        """Wait until no connection and no request is open."""
        await until(lambda: not self.relay.connections and not self.registry.in_flight)

    async def idle(self) -> None:
        """Wait until no request is open; connections may be."""
        await until(lambda: not self.registry.in_flight)


def free_listener() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener


@asynccontextmanager
async def tap_before(
    port: int,
    *,
    clients: Clients | None = None,
    clocks: Clocks | None = None,
    max_connections: int = 5000,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Tapped]:
    registry = Registry(clients or Clients({}), gap_bounds=m.GAPS.buckets, clocks=clocks)
    relay = Relay(
        "127.0.0.1",
        port,
        tls=tls,
        observe=lambda: ConnectionObserver(registry),
        counts=registry.counts,
        max_connections=max_connections,
    )
    listener = free_listener()
    await relay.start(listener)
    try:
        yield Tapped(listener.getsockname()[1], relay, registry)
    finally:
        await relay.stop(within_s=0)
        listener.close()
        await until(lambda: not relay.connections)
