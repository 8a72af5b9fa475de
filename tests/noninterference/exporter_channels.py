"""Everything that the exporter and the tap let out in one run, in one process and by the clock of the run.

What a shape cannot fix is taken out by name, and listed in NOT_TEXT: measurements of this process and of real time.
"""

import asyncio
import contextlib
import io
import itertools
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock

import httpx
import requests
from requests.adapters import BaseAdapter

from exporter import settings
from exporter.catalogue import tap as tap_catalogue
from exporter.collectors.prediction_metrics import Stream
from exporter.http.routes import Routes
from exporter.log_pipeline import Streams
from exporter.shared import logs
from exporter.tap import settings as tap_settings
from exporter.tap.app import Reports
from exporter.tap.clients import Clients
from exporter.tap.exchange import Clocks
from exporter.tap.observer import ConnectionObserver
from exporter.tap.registry import Registry
from exporter.tap_pipeline import taps_of
from exporter.telemetry import metric_push, otlp, partial_success
from tests.noninterference import shapes
from tests.noninterference.twins import Twin

RECEIVER: Final = "http://receiver:4318"
NOT_TEXT: Final = re.compile(
    rb"^(?:# (?:HELP|TYPE|UNIT) )?(?:process_|python_|daemonpulse_(?:scrape|collector)_\w*seconds)[^\n]*\n",
    re.MULTILINE,
)
"""Lines of /metrics about CPU time, memory and durations of this process."""

_ENDING: Final = re.compile(rb'"ending":\d+,')
"""Declared in SECURITY.md: a 32-bit check of an answer's end, by which the exporter knows its own report of it."""

GETS: Final = (
    "/metrics",
    "/live",
    "/live/text?daemon=box&request=boot-1",
    "/",
    "/sd",
    "/readyz",
    "/healthz",
    "/probe?daemon=box",
    "/nothing",
)

Channels = dict[str, bytes]


class _Receiver(BaseAdapter):
    """An OTLP receiver in the place of the network."""

    def __init__(self, bodies: Channels) -> None:
        super().__init__()
        self._bodies = bodies

    def send(self, request: Any, *_: Any, **__: Any) -> requests.Response:
        """Keep a request's body by its path."""
        name = f"OTLP {request.path_url}"
        self._bodies[name] = self._bodies.get(name, b"") + (request.body or b"")
        answer = requests.Response()
        answer.status_code = 200
        answer.raw = io.BytesIO(b"")
        answer.request, answer.url = request, request.url
        return answer

    def close(self) -> None:
        """Nothing is open."""


class _AtTheEnd:
    """A queue that delivers all it was given in one batch at the end, so that time does not cut the batches."""

    def __init__(self, name: str, deliver: Callable[[Sequence[Any]], bool], **_: Any) -> None:
        self.name = name
        self.counts = SimpleNamespace(exported=0, failed=0, dropped=0)
        self._deliver = deliver
        self._items: list[Any] = []

    def put(self, item: Any, *, weight: int = 1, size_bytes: int = 0) -> bool:
        del weight, size_bytes
        self._items.append(item)
        return True

    def close(self, *, within_s: float) -> None:
        del within_s
        if self._items:
            self._deliver(self._items)


@contextlib.contextmanager
def stopped_clock() -> Iterator[None]:
    """Let the time be that of the run, a millisecond later at each look."""
    ticks = itertools.count()
    start_s = shapes.START_MS / 1000

    def now_s() -> float:
        return start_s + next(ticks) / 1000

    def now_ns() -> int:
        return int(now_s() * 1e9)

    with (
        mock.patch.object(time, "time", now_s),
        mock.patch.object(time, "time_ns", now_ns),
        mock.patch.object(time, "perf_counter", now_s),
        mock.patch("opentelemetry._logs._internal.time_ns", now_ns),
    ):
        yield


@contextlib.contextmanager
def printed(into: io.StringIO) -> Iterator[None]:
    """Keep what a program prints at level debug; logging is put back as it was."""
    root, programs = (
        logging.getLogger(),
        [logging.getLogger(name) for name in ("exporter", "actions", "daemonpulse")],
    )
    handlers, level, levels = root.handlers[:], root.level, [one.level for one in programs]
    hooks = sys.excepthook, threading.excepthook
    root.handlers = []
    logs.configure(level="debug", format_="logfmt", stream=into)
    try:
        yield
    finally:
        root.handlers = handlers
        root.setLevel(level)
        for one, before in zip(programs, levels, strict=True):
            one.setLevel(before)
        sys.excepthook, threading.excepthook = hooks


def run(twin: Twin) -> Channels:
    """Let a run happen, and give what each channel let out."""
    channels: Channels = {}
    said = io.StringIO()
    session = requests.Session()
    session.mount("http://", _Receiver(channels))
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": RECEIVER,
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
    }
    with (
        stopped_clock(),
        printed(said),
        mock.patch.dict("os.environ", variables),
        mock.patch.object(otlp, "BatchQueue", _AtTheEnd),
        mock.patch.object(partial_success, "bounded_session", return_value=session),
    ):
        asyncio.run(_run(twin, channels))
    channels["log"] = said.getvalue().encode()
    return channels


async def _run(twin: Twin, channels: Channels) -> None:
    chosen = settings.load(
        {}, {"DAEMONPULSE_DAEMON_NAME": "box", "DAEMONPULSE_DAEMON_TAP_URL": "http://127.0.0.1:9"}
    )
    streams = Streams(chosen, [], {})
    stream = streams.recording("box")
    taps = taps_of(chosen.daemons, streams.streams)
    routes = Routes([], streams=streams.streams, taps=taps, deliveries=streams.deliveries)
    channels["tap"] = await _tap(twin, taps[0])
    _break(twin, stream)
    for number, line in enumerate(shapes.log_lines(twin)):
        stream.flow.take_line(line)
        if number == 10:
            await _doors(routes, channels, "halfway ")
    for tap in taps:
        tap.claims.expire(everything=True)
    await _doors(routes, channels, "")
    push = metric_push.from_environment(lambda: _families(routes))
    assert push is not None
    push._wall_clock, push._start_ns = lambda: shapes.START_MS / 1000, shapes.START_MS * 1_000_000
    await push.push()
    streams.close()


def _break(twin: Twin, stream: Stream) -> None:
    """Give some runs a bug whose exception quotes the text that it meets."""
    builder, metrics = stream.flow.builder, stream.metrics
    broken: Any = twin.shape.choice((None, None, (builder._reader, "read"), (metrics, "take_prediction")))

    def fails(*quoted: Any, **_: Any) -> None:
        raise ValueError(quoted)

    if broken is not None:
        setattr(broken[0], broken[1], fails)


async def _families(routes: Routes) -> Any:
    return [
        family
        for family in (await routes.samples(within_s=1)).collect()
        if not NOT_TEXT.match(f"{family.name} \n".encode())
    ]


async def _tap(twin: Twin, tap: Any) -> bytes:
    """Let requests cross a tap, hand its reports to the exporter, and give what it answers."""
    ticks = itertools.count()
    clocks = Clocks(lambda: next(ticks) / 1000, lambda: (shapes.START_MS + next(ticks)) * 1_000_000)
    registry = Registry(
        Clients({}, "x-client"), gap_bounds=tap_catalogue.GAPS.buckets, custom_tags=(), clocks=clocks
    )
    registry._boot = "boot"
    for request, answer in shapes.requests(twin):
        connection = ConnectionObserver(registry)
        connection.from_client(request)
        for piece in answer:
            connection.from_daemon(piece)
        connection.closed(None)
    chosen = tap_settings.load({}, {})
    relay = SimpleNamespace(connections=[], is_upstream_reachable=True, upstream="http://127.0.0.1:1234")
    transport = httpx.ASGITransport(Reports(registry, relay, chosen, url="http://127.0.0.1:1235"))  # type: ignore[arg-type]
    async with httpx.AsyncClient(
        transport=transport, base_url=f"http://127.0.0.1:{chosen.reports_port}"
    ) as http:
        answers = [
            await http.get("/reports?boot=boot&after=1"),
            await http.get("/healthz"),
            await http.get("/text?request=boot-1"),
            await http.get("/x"),
        ]
    for report in (await registry.batch("boot", 1, within_s=0)).reports:
        tap.metrics.take_report(report)
        if report.is_prediction:
            tap.claims.take_report(report)
    return _ENDING.sub(b"", b"\n".join(answer.content for answer in answers))


async def _doors(routes: Routes, channels: Channels, when: str) -> None:
    transport = httpx.ASGITransport(routes)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        for path in GETS:
            answer = await http.get(path)
            channels[f"{when}GET {path}"] = _without_time(answer)
        openmetrics = {"Accept": "application/openmetrics-text;version=1.0.0"}
        channels[f"{when}OpenMetrics"] = _without_time(await http.get("/metrics", headers=openmetrics))


def _without_time(answer: httpx.Response) -> bytes:
    headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
    return str(headers).encode() + b"\n" + NOT_TEXT.sub(b"", answer.content)


def differing(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> dict[str, tuple[bytes, bytes]]:
    """Give the channels that differ between two runs, each with the first lines that do."""
    found = {}
    for name in sorted(one.keys() | other.keys()):
        mine, theirs = one.get(name, b"(silent)"), other.get(name, b"(silent)")
        if mine != theirs:
            pairs = zip(mine.split(b"\n"), theirs.split(b"\n"), strict=False)
            found[name] = next(((a[:400], b[:400]) for a, b in pairs if a != b), (mine[-200:], theirs[-200:]))
    return found
