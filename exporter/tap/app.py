"""Composes the tap: a relay for clients, and a small server from which the exporter fetches reports.

It is a separate process: scrapes and log streams would delay bytes in the same process, and an upgrade of the
exporter must not cut a running response.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from exporter.catalogue import tap as m
from exporter.shared import host_header, live_token, logs, process, server
from exporter.tap.clients import Clients
from exporter.tap.exchange import Clocks
from exporter.tap.observer import ConnectionObserver
from exporter.tap.registry import Registry
from exporter.tap.relay import Relay, keep_alive
from exporter.tap.settings import TapSettings

log = logging.getLogger(__name__)

MAX_WAIT_S: Final = 10.0
"""For news, in one fetch."""
_LAST_FETCH_S: Final = 2.0
"""At the end, for an exporter that has not fetched the last reports."""

Send = Callable[[dict[str, Any]], Awaitable[None]]


def run(settings: TapSettings) -> None:
    """Relay until SIGTERM or SIGINT. Raises SettingsError before anything is started."""
    logs.configure(level=settings.log_level, format_=settings.log_format)
    process.raise_open_files_limit()
    process.raise_gc_threshold()
    asyncio.run(serve(settings))


async def serve(
    settings: TapSettings,
    *,
    ready: Callable[[str, str], None] | None = None,
    clocks: Clocks | None = None,
) -> None:
    """Relay until SIGTERM, SIGINT or cancellation, then let open connections end for a while.

    `ready` is called with the URL for clients and the one for reports.
    """
    clients = server.listen(settings.listen_host, settings.listen_port)
    reports = server.listen(settings.reports_host, settings.reports_port, key="reports_listen")
    keep_alive(clients)
    registry = Registry(
        Clients(settings.client_keys, settings.client_header),
        gap_bounds=m.GAPS.buckets,
        custom_tags=settings.reasoning_tags,
        clocks=clocks,
        keeps_text=settings.live_token is not None,
    )
    relay = Relay(
        settings.upstream_host,
        settings.upstream_port,
        tls=ssl.create_default_context() if settings.upstream_tls else None,
        observe=lambda: ConnectionObserver(registry),
        counts=registry.counts,
        max_connections=settings.max_connections,
    )
    url, reports_url = server.url_of(clients, tls=False), server.url_of(reports, tls=False)
    served = _Server(Reports(registry, relay, settings, url=url), relay, registry, drain_s=settings.drain_s)

    def announce() -> None:
        log.info("tap started", extra={"url": url, "upstream": relay.upstream, "reports": reports_url})
        if ready is not None:
            ready(url, reports_url)

    await relay.start(clients)
    try:
        await served.serve_until_signal(reports, ready=announce)
    finally:
        await relay.stop(within_s=0)
    log.info("tap stopped")


class _Server(server.Server):
    """The server of reports; a signal ends the relay first, so that the last reports can still be fetched."""

    def __init__(self, application: Any, relay: Relay, registry: Registry, *, drain_s: float) -> None:
        super().__init__(application, tls=None)
        self._relay = relay
        self._registry = registry
        self._drain_s = drain_s
        self._draining: asyncio.Task[None] | None = None

    def _stop(self) -> None:
        if self._draining is not None:  # a second signal does not wait
            self.should_exit = True
            return
        self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        log.info("tap stopping", extra={"connections": len(self._relay.connections), "wait_s": self._drain_s})
        await self._relay.stop(within_s=self._drain_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_FETCH_S):
                await self._registry.all_fetched()
        self.should_exit = True


class Reports:
    """The ASGI application behind `reports_listen`: /reports for the exporter, /healthz for the supervisor.

    /text, what a running request writes, answers only where `capture` is full, and only to the token.
    """

    def __init__(self, registry: Registry, relay: Relay, settings: TapSettings, *, url: str) -> None:
        """`url` is where clients reach the tap."""
        self._registry = registry
        self._relay = relay
        self._token = settings.live_token
        self._health = msgspec.json.encode(
            {
                "status": "ok",
                "listen": url.partition("://")[2],
                "upstream": relay.upstream,
            }
        )
        self._hosts = host_header.accepted(settings.reports_host, settings.allowed_hosts)
        self._encoder = msgspec.json.Encoder()

    async def __call__(self, scope: Mapping[str, Any], _receive: object, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        status, body = await self._respond(scope)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"x-content-type-options", b"nosniff"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _respond(self, scope: Mapping[str, Any]) -> tuple[int, bytes]:
        host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
        if self._hosts is not None and host_header.name_of(host) not in self._hosts:
            return 421, _error(f"Host {host[:100]!a} is not a name of this tap; add it to allowed_hosts")
        if scope["method"] not in {"GET", "HEAD"}:
            return 405, _error("only GET and HEAD")
        query = parse_qs(scope["query_string"].decode("latin-1"))
        match scope["path"]:
            case "/healthz":
                return 200, self._health + b"\n"
            case "/reports":
                return await self._batch(query)
            case "/text":
                return self._text(scope, query)
        return 404, _error("there is /reports?boot=&after=&wait=, /text?request=&after= and /healthz")

    async def _batch(self, query: Mapping[str, list[str]]) -> tuple[int, bytes]:
        try:
            after = int(query.get("after", ["1"])[0])
            wait_s = min(MAX_WAIT_S, max(0.0, float(query.get("wait", ["0"])[0])))
        except ValueError:
            return 400, _error("after and wait are numbers")
        self._registry.counts["open_connections"] = len(self._relay.connections)
        self._registry.counts["upstream_reachable"] = int(self._relay.is_upstream_reachable is not False)
        batch = await self._registry.batch(query.get("boot", [""])[0], after, within_s=wait_s)
        return 200, self._encoder.encode(batch)

    def _text(self, scope: Mapping[str, Any], query: Mapping[str, list[str]]) -> tuple[int, bytes]:
        if self._token is None:
            return 404, _error("no text is kept; set capture=full and live_token_file")
        presented = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if not live_token.opens(self._token, presented.decode("latin-1")):
            return 401, _error("this needs the token of live_token_file: Authorization: Bearer …")
        try:
            after = max(0, int(query.get("after", ["0"])[0][:15]))
        except ValueError:
            return 400, _error("after is a number")
        text = self._registry.text(query.get("request", [""])[0], after)
        if text is None:
            return 404, _error("no text of such a request is kept")
        return 200, self._encoder.encode(text)


def _error(text: str) -> bytes:
    return json.dumps({"error": text}).encode() + b"\n"
