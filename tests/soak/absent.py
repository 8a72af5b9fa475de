"""Soaks the exporter while the other side is missing for an hour: a daemon that is down, a receiver that is away.

Knows no hour: its callers say how often the exporter would have tried in one, and it tries that often in seconds.
What matters is that nothing piles up: no error, no socket, no log line, no span beyond the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

from opentelemetry.sdk.resources import Resource

from exporter.llmster import client
from exporter.llmster.events import RuntimeLog, ServerLog
from exporter.llmster.state import Snapshot
from exporter.pipeline.log_stream import EventFlow
from exporter.pipeline.predictions import Prediction, PredictionBuilder
from exporter.telemetry import otlp
from exporter.telemetry.content import Capture
from exporter.telemetry.log_sink import LogSink
from exporter.telemetry.spans import SpanSink, Style, span_count
from llmster_sim.server import SimConfig, Simulator
from tests.soak.footprint import Curve, Limits
from tests.soak.hour import Hour
from tests.system.conftest import daemon, exporters

SCRAPES_PER_POINT = 60
POINTS = 5
LEAST_PREDICTIONS = 40_000
"""A quarter of them must be more than a queue holds, or it is still filling when memory is looked at."""
MOST_LOG_LINES = 10
TRYING = Limits(tasks=3, descriptors=4)
"""An attempt may be under way at either point, with both of its ends in this process."""
WAITING = Limits(rss_mb=12.0, blocks=80_000, objects=12_000, descriptors=2)
"""Two full queues of 8192 and what is handed over, which is not of one size; each may have a socket that it tries.

Of 1,600,000 predictions RSS grew by 5 MB in the second 400,000 and by none after it; in 400,000 by up to 9 MB.
"""


class _Lines(logging.Handler):
    """Keeps the exporter's log lines of level info and above."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


@contextlib.contextmanager
def _log_lines() -> Iterator[list[str]]:
    handler, logger = _Lines(), logging.getLogger("exporter")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextlib.asynccontextmanager
async def _nobody() -> AsyncIterator[str]:
    """A port that refuses: bound, so that nobody else gets it, and not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextlib.asynccontextmanager
async def _refusing() -> AsyncIterator[str]:
    """A daemon that wants another token."""
    async with Simulator(SimConfig(scenario="idle", token="sk-lm-Ab3dE6gH:0123456789abcdefghij")) as sim:
        yield sim.url


@contextlib.asynccontextmanager
async def _stranger() -> AsyncIterator[str]:
    """A server that is not LM Studio: it answers the upgrade as any web server does."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


KINDS = {"unreachable": _nobody, "auth": _refusing, "upgrade_refused": _stranger}


async def daemon_away(kind: str, *, attempts: int) -> tuple[Curve, list[str]]:
    """Try to reach a daemon that is not there, or not for us, and scrape as ever."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    curve = Curve(f"daemon {kind}", TRYING)
    problems: list[str] = []
    async with KINDS[kind]() as url, exporters() as start:
        with (
            _log_lines() as lines,
            patch.object(client, "BACKOFF_FIRST_S", 0.001),
            patch.object(client, "BACKOFF_MOST_S", 0.001),
        ):
            exporter = await start(daemon("box", url))
            for point in range(POINTS):
                tried = 1 + attempts * point // (POINTS - 1)
                for _ in range(SCRAPES_PER_POINT):
                    await exporter.get("/")
                    if (await exporter.scrape()).value("llmster_up") != 0:
                        problems.append("up although nobody is there")
                scraped = await exporter.until(
                    lambda scraped, tried=tried: (  # type: ignore[misc]
                        (scraped.value("daemonpulse_connection_failures_total", reason=kind) or 0) >= tried
                    ),
                    within_s=120,
                )
                failures = scraped.value("daemonpulse_connection_failures_total", reason=kind)
                curve.sample(f"{failures:,.0f} attempts")
            if len(lines) > MOST_LOG_LINES:
                problems.append(f"{len(lines)} log lines, such as {lines[-1]!r}")
    return curve, problems


class _Put:
    """A sink that counts what the others were given, by their weights."""

    name = "put"

    def __init__(self) -> None:
        self.spans = 0
        self.records = 0

    def take_prediction(self, prediction: Prediction) -> None:
        self.spans += span_count(prediction)
        self.records += 1  # each prediction has a record that leads to its trace

    def take_log(self, _event: ServerLog | RuntimeLog) -> None:
        self.records += 1


def receiver_away(*, predictions: int) -> tuple[Curve, list[str]]:
    """Make spans and log records for a receiver that refuses: the queues fill, and every loss is counted."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        away = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{bound.getsockname()[1]}"}
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        with patch.dict(os.environ, away):
            return _lose(predictions)


def _lose(predictions: int) -> tuple[Curve, list[str]]:
    curve, put = Curve("receiver away", WAITING), _Put()
    hour = Hour(predictions=predictions, line_every=2)
    way = otlp.from_environment(lambda _: Resource({}), Style())
    assert way.spans is not None
    assert way.logs is not None
    log_sink = LogSink("box", way.logs, lambda _: Resource({}), Capture.OFF)
    flow = EventFlow(PredictionBuilder("box"), [SpanSink(way.spans), log_sink, put])
    curve.sample("start")
    due = [predictions * point // (POINTS - 1) for point in range(1, POINTS - 1)]
    for thing in hour.events():
        if not isinstance(thing, Snapshot):
            flow.take(thing)
        elif due and hour.sums.predictions >= due[0]:
            curve.sample(f"{hour.sums.predictions:,} predictions")
            due.pop(0)
    curve.sample(f"{hour.sums.predictions:,} predictions")
    way.close()
    problems: list[str] = []
    for signal, counts, given in (
        ("spans", way.spans.counts, put.spans),
        ("logs", way.logs.counts, put.records),
    ):
        if counts.exported or counts.failed + counts.dropped != given:
            problems.append(f"{signal}: of {given:,} put in, {counts}")
        if not counts.dropped:
            problems.append(f"{signal}: the queue never filled, so nothing was tried")
    return curve, problems
