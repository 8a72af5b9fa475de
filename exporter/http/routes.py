"""The exporter's HTTP routes, as one small ASGI application.

Does not depend on the server or signals (shared/server.py). Scrapes and the landing page read daemons; the other
paths answer from known values.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final
from urllib.parse import parse_qs

from exporter.collectors import COLLECTORS, DAEMON_COLLECTORS
from exporter.collectors.base import Collect, Deliveries, Samples, Scrape, WatchedDaemon, run
from exporter.collectors.client_metrics import Tap
from exporter.collectors.energy_metrics import Energy
from exporter.collectors.prediction_metrics import Stream
from exporter.http import landing, live
from exporter.http.exposition import expose
from exporter.http.live_text import LiveTexts
from exporter.pipeline.host_snapshot import HostSnapshot, HostWatch
from exporter.pipeline.snapshots import DaemonReading, DaemonWatch
from exporter.shared import live_token, process
from exporter.shared.host_header import name_of
from exporter.shared.live_token import LiveToken
from exporter.shared.web_config import BasicAuth

log = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

DEFAULT_SCRAPE_TIMEOUT_S: Final = 10.0
"""Prometheus' default, for scrapers that send no timeout."""

SCRAPE_RESERVE_S: Final = 0.5
"""Kept of the scraper's timeout for collecting, encoding and the network."""

LEAST_WAIT_S: Final = 0.1

MAX_PASSWORD_CHECKS: Final = 2
"""Password checks at the same time. bcrypt is slow on purpose, and guesses must leave threads and cores to
scrapes."""

_LIVE: Final = frozenset({"/live", "/live/text"})
_NOT_KEPT: Final = (("cache-control", "no-store"),)
_ROUTES: Final = (
    "/, /metrics, /probe?daemon=NAME, /live, /live/text?daemon=&request=&after=, /sd, /healthz, /readyz"
)
_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """The used part of an ASGI scope."""

    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    scheme: str

    @property
    def wait_s(self) -> float:
        """How long this scrape may wait for daemons: the scraper's timeout less the reserve."""
        try:
            timeout_s = float(self.headers.get("x-prometheus-scrape-timeout-seconds", ""))
        except ValueError:
            timeout_s = DEFAULT_SCRAPE_TIMEOUT_S
        if not 0 < timeout_s < float("inf"):
            timeout_s = DEFAULT_SCRAPE_TIMEOUT_S
        return max(LEAST_WAIT_S, timeout_s - SCRAPE_RESERVE_S)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; `headers` beyond content type and length."""

    status: int
    body: bytes
    content_type: str = _TEXT
    headers: tuple[tuple[str, str], ...] = ()


class Routes:
    """The ASGI application over a fixed set of watched daemons. `hosts` are the accepted Host names, None for any."""

    def __init__(
        self,
        watches: Iterable[DaemonWatch],
        *,
        streams: Iterable[Stream] = (),
        taps: Iterable[Tap] = (),
        host: HostWatch | None = None,
        energy: Energy | None = None,
        deliveries: Mapping[str, Deliveries] | None = None,
        live_token: LiveToken | None = None,
        auth: BasicAuth | None = None,
        hosts: frozenset[str] | None = None,
    ) -> None:
        self._watches = {watch.name: watch for watch in watches}
        self._streams = tuple(streams)
        self._taps = tuple(taps)
        self._host = host
        self._energy = energy
        self._deliveries = deliveries if deliveries is not None else {}
        self._live_token = live_token
        self._texts = LiveTexts(self._taps)
        self._auth = auth
        self._hosts = hosts
        self._checking = 0
        self._version = metadata.version("daemonpulse")  # once: it reads every folder Python imports from
        self._routes: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/": self._landing,
            "/metrics": self._metrics,
            "/probe": self._probe,
            "/live": self._live,
            "/live/text": self._live_text,
            "/sd": self._service_discovery,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
        }

    async def __call__(self, scope: Mapping[str, Any], _receive: Receive, send: Send) -> None:
        """Answer one HTTP request; a handler's bug becomes a 500 and a log line, never a hung scrape."""
        if scope["type"] != "http":
            return
        response = await self._respond(scope)
        headers = [
            (b"content-type", response.content_type.encode()),
            (b"content-length", str(len(response.body)).encode()),
            (b"x-content-type-options", b"nosniff"),
            *((name.encode(), value.encode()) for name, value in response.headers),
        ]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else response.body
        await send({"type": "http.response.body", "body": body})

    async def _respond(self, scope: Mapping[str, Any]) -> Response:
        request = Request(
            path=scope["path"],
            query=parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True),
            headers=_joined(scope["headers"]),
            scheme=scope["scheme"],
        )
        refusal = await self._refusal(request)
        if refusal is not None:
            return refusal
        handler = self._routes.get(request.path)
        if handler is None:
            return Response(404, f"Nothing at {request.path[:100]}; there is {_ROUTES}\n".encode())
        if scope["method"] not in {"GET", "HEAD"}:
            return Response(405, b"Only GET and HEAD\n", headers=(("allow", "GET, HEAD"),))
        try:
            return await handler(request)
        except Exception:
            log.exception("request failed", extra={"path": request.path})
            return Response(500, b"Internal error; the exporter's log has it\n")

    async def _refusal(self, request: Request) -> Response | None:
        """Reject requests with a foreign Host header or without a password."""
        host = request.headers.get("host", "")
        if self._hosts is not None and name_of(host) not in self._hosts:
            fix = "add it to allowed_hosts if it is yours"
            return Response(421, f"Host {host[:100]!a} is not a name of this exporter; {fix}\n".encode())
        if self._auth is not None and not (request.path in _LIVE and self._is_opened(request)):
            authorization = request.headers.get("authorization", "")
            right = self._auth.remembers(authorization)
            if not right and self._checking >= MAX_PASSWORD_CHECKS:
                wait = (("retry-after", "1"),)
                return Response(429, b"Too many passwords at once\n", headers=wait)
            if not right and not await self._is_right(self._auth, authorization):
                challenge = (("www-authenticate", 'Basic realm="daemonpulse"'),)
                return Response(401, b"Unauthorized\n", headers=challenge)
        return None

    def _is_opened(self, request: Request) -> bool:
        """Tell whether the token of the live view came along."""
        presented = request.headers.get("authorization", "")
        return self._live_token is not None and live_token.opens(self._live_token, presented)

    async def _is_right(self, auth: BasicAuth, authorization: str) -> bool:
        """Check a password in a thread."""
        self._checking += 1
        try:
            return await asyncio.to_thread(auth.allows, authorization)
        finally:
            self._checking -= 1

    async def _metrics(self, request: Request) -> Response:
        return await self._scrape(
            request, self._watches.values(), self._streams, self._taps, COLLECTORS, host=self._host
        )

    async def _probe(self, request: Request) -> Response:
        name = request.query.get("daemon", [""])[0]
        watch = self._watches.get(name)
        if watch is None:
            known = ", ".join(self._watches)
            fix = "not configured" if name else "missing; ask for /probe?daemon=NAME"
            return Response(400, f"daemon={name[:100]}: {fix}; known: {known}\n".encode())
        streams = [stream for stream in self._streams if stream.daemon == name]
        taps = [tap for tap in self._taps if tap.daemon == name]
        return await self._scrape(request, (watch,), streams, taps, DAEMON_COLLECTORS)

    async def _scrape(
        self,
        request: Request,
        watches: Iterable[DaemonWatch],
        streams: Iterable[Stream],
        taps: Iterable[Tap],
        collectors: Iterable[tuple[str, Collect]],
        *,
        host: HostWatch | None = None,
    ) -> Response:
        samples = await self._collect(watches, streams, taps, collectors, host=host, within_s=request.wait_s)
        exposition = expose(
            samples,
            accept=request.headers.get("accept", ""),
            accept_encoding=request.headers.get("accept-encoding", ""),
            names=request.query.get("name[]", ()),
        )
        encoding = exposition.content_encoding
        headers = (("content-encoding", encoding),) if encoding else ()
        return Response(
            200, exposition.body, exposition.content_type, (*headers, ("vary", "Accept, Accept-Encoding"))
        )

    async def samples(self, *, within_s: float) -> Samples:
        """Collect what /metrics would show now; daemons are waited for so many seconds at most."""
        return await self._collect(
            self._watches.values(),
            self._streams,
            self._taps,
            COLLECTORS,
            host=self._host,
            within_s=within_s,
        )

    async def _collect(
        self,
        watches: Iterable[DaemonWatch],
        streams: Iterable[Stream],
        taps: Iterable[Tap],
        collectors: Iterable[tuple[str, Collect]],
        *,
        host: HostWatch | None,
        within_s: float,
    ) -> Samples:
        watches = tuple(watches)
        readings, seen = await self._read_all(watches, host, within_s=within_s)
        scrape = Scrape(
            now_s=time.time(),
            daemons=tuple(map(WatchedDaemon, readings)),
            streams=tuple(streams),
            taps=tuple(taps),
            host=seen,
            deliveries=self._deliveries,
            energy=self._energy,
            own=process.read(),
        )
        return run(collectors, scrape)

    async def _service_discovery(self, request: Request) -> Response:
        """List the daemons as http_sd targets that lead back here.

        There is no target label `daemon`: it would push the metrics' own label aside, to `exported_daemon`.
        """
        here = request.headers.get("host", "")
        targets = [
            {
                "targets": [here],
                "labels": {
                    "__scheme__": request.scheme,
                    "__metrics_path__": "/probe",
                    "__param_daemon": name,
                    **({"site": watch.site} if watch.site else {}),
                },
            }
            for name, watch in self._watches.items()
        ]
        return Response(200, json.dumps(targets, indent=2).encode() + b"\n", "application/json")

    async def _live(self, _: Request) -> Response:
        body = live.document(self._streams, self._taps, now_s=time.time())
        return Response(200, json.dumps(body).encode() + b"\n", "application/json")

    async def _live_text(self, request: Request) -> Response:
        """Answer with text of a running request, to the token only; a password of web_config does not open it."""
        if self._live_token is None:
            return Response(
                404, b"No text is shown; set capture=full and live_token_file, here and at the tap\n"
            )
        if not self._is_opened(request):
            challenge = (("www-authenticate", "Bearer"),)
            return Response(401, b"This needs the token of live_token_file\n", headers=challenge)
        daemon, wanted, after = (request.query.get(key, [""])[0] for key in ("daemon", "request", "after"))
        start = int(after) if re.fullmatch(r"[0-9]{1,9}", after) else 0
        found = await self._texts.document(daemon, wanted[:64], start)
        if found is None:
            return Response(404, b"No text of such a request is kept\n")
        return Response(200, json.dumps(found).encode() + b"\n", "application/json", _NOT_KEPT)

    async def _landing(self, _: Request) -> Response:
        readings = await self._read(tuple(self._watches.values()), within_s=1.0)
        gpus = await self._host.read_gpus(within_s=1.0) if self._host is not None else None
        html = landing.page(
            readings,
            version=self._version,
            gpus=gpus.devices if gpus is not None else (),
            in_flight=live.document(self._streams, self._taps, now_s=time.time())["in_flight"],
        )
        csp = ("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'")
        return Response(200, html.encode(), "text/html; charset=utf-8", (csp,))

    async def _healthz(self, _: Request) -> Response:
        return Response(200, b"ok\n")

    async def _readyz(self, _: Request) -> Response:
        """Ready means that every daemon was tried once; a daemon that is down does not change it."""
        waiting = [name for name, watch in self._watches.items() if not watch.client.is_settled]
        if waiting:
            return Response(503, f"not tried yet: {', '.join(waiting)}\n".encode())
        lines = (f"{name}: {watch.client.health().state}\n" for name, watch in self._watches.items())
        return Response(200, "".join(lines).encode())

    @classmethod
    async def _read_all(
        cls, watches: tuple[DaemonWatch, ...], host: HostWatch | None, *, within_s: float
    ) -> tuple[list[DaemonReading], HostSnapshot | None]:
        """Read daemons and GPUs at the same time, then the processes that tie the two together."""
        if host is None:
            return await cls._read(watches, within_s=within_s), None
        until = time.monotonic() + within_s
        readings, gpus = await asyncio.gather(
            cls._read(watches, within_s=within_s), host.read_gpus(within_s=within_s)
        )
        left_s = max(LEAST_WAIT_S, until - time.monotonic())
        return readings, await host.read(gpus, readings, within_s=left_s)

    @staticmethod
    async def _read(watches: tuple[DaemonWatch, ...], *, within_s: float) -> list[DaemonReading]:
        return await asyncio.gather(*(watch.read(within_s=within_s) for watch in watches))


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Give headers by name; one that comes several times is a list. Source: RFC 9110, section 5.3."""
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found
