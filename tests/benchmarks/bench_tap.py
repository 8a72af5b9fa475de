"""What the tap adds to a request and to a token, beside an ordinary proxy and litellm's, all in one run.

Run as `python -m tests.benchmarks tap`. Judges nothing. The daemon is a stand-in that stamps each token; each proxy is
a process of its own. litellm is measured if a program of that name is found on PATH, or where
DAEMONPULSE_TEST_LITELLM says.
"""

import asyncio
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import psutil

from daemonpulse.demo.programs import free_port
from tests.benchmarks.processes import python
from tests.benchmarks.table import Row

PROGRAMS: Final = str(Path(__file__).with_name("tap_programs.py"))
STREAMS: Final = 64
TOKENS_PER_S: Final = 100
READY_WITHIN_S: Final = 90
BODY: Final = b'{"model":"bench","messages":[{"role":"user","content":"Say something."}]}'
KEY: Final = "sk-" + "5e" * 32
"""litellm's own, made up for this run; the others do not look at it."""
_STAMP: Final = re.compile(rb'"chatcmpl-(\d{20})"')
_STAMP_BYTES: Final = 64
SCRAPES: Final = """
import time
from prometheus_client import CollectorRegistry, Gauge, generate_latest
registry = CollectorRegistry()
gauge = Gauge("bench_value", "A value.", ["name"], registry=registry)
for number in range(8000):
    gauge.labels(str(number)).set(number)
print("ready", flush=True)
while True:
    generate_latest(registry)
    time.sleep(0.2)
"""


@contextlib.contextmanager
def tap(upstream: str) -> Iterator[tuple[str, psutil.Process]]:
    """Run the real tap."""
    port = free_port()
    program = str(Path(sys.executable).parent / "daemonpulse")
    flags = ("--upstream", upstream, "--listen", f"127.0.0.1:{port}", "--log-level", "error")
    reports = ("--reports-listen", f"127.0.0.1:{free_port()}", "--drain-seconds", "0")
    with program_at(port, [program, "tap", *flags, *reports]) as running:
        yield running


@contextlib.contextmanager
def bare_proxy(upstream: str) -> Iterator[tuple[str, psutil.Process]]:
    """Run the ordinary proxy."""
    port = free_port()
    with program_at(port, [sys.executable, PROGRAMS, "proxy", upstream, str(port)]) as running:
        yield running


@contextlib.contextmanager
def litellm(upstream: str, program: str) -> Iterator[tuple[str, psutil.Process]]:
    """Run litellm's proxy, without a database and without its telemetry."""
    port = free_port()
    command = [program, "--model", "openai/bench", "--alias", "bench", "--api_base", f"{upstream}/v1"]
    flags = ["--port", str(port), "--host", "127.0.0.1", "--telemetry", "False"]
    env = {
        **os.environ,
        "OPENAI_API_KEY": KEY,
        "LITELLM_MASTER_KEY": KEY,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    with program_at(port, [*command, *flags], env=env) as running:
        yield running


@contextlib.contextmanager
def program_at(
    port: int, command: list[str], env: dict[str, str] | None = None
) -> Iterator[tuple[str, psutil.Process]]:
    """Run a server; give its URL and process when it listens."""
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            url, until = f"http://127.0.0.1:{port}", time.monotonic() + READY_WITHIN_S
            while time.monotonic() < until and running.poll() is None:
                with contextlib.suppress(httpx.HTTPError):
                    httpx.get(url, timeout=5, trust_env=False)
                    break
                time.sleep(0.1)
            yield url, psutil.Process(running.pid)
        finally:
            running.kill()


def rows(*, quick: bool) -> Iterator[Row]:
    """Fill rows: added to a request, added to a token, CPU, jitter beside scrapes, and the same of others."""
    requests, tokens = (20, 20) if quick else (2000, 500)
    with python(PROGRAMS, "daemon") as (line, _):
        daemon = line.strip()
        with tap(daemon) as (ours, process), bare_proxy(daemon) as (bare, bare_process):
            yield from _measured(daemon, (ours, process), (bare, bare_process), requests, tokens)
        program = os.environ.get("DAEMONPULSE_TEST_LITELLM") or shutil.which("litellm")
        if program is None or quick:
            return
        with tap(daemon) as (ours, _), litellm(daemon, program) as (other, _):
            mine, theirs = asyncio.run(_requests([ours, other], 200))
            yield Row(
                what="a request through it, p50", ours=mine, unit="ms", against="litellm proxy", floor=theirs
            )


def _measured(
    daemon: str,
    ours: tuple[str, psutil.Process],
    bare: tuple[str, psutil.Process],
    requests: int,
    tokens: int,
) -> Iterator[Row]:
    direct, mine, theirs = asyncio.run(_requests([daemon, ours[0], bare[0]], requests))
    added, floor = max(mine - direct, 0.001), theirs - direct
    yield Row(
        what="added to a request, p50", ours=added, unit="ms", against="uvicorn + httpx", floor=floor, goal=1
    )
    found = {url: asyncio.run(_one_stream(url, tokens)) for url in (daemon, ours[0], bare[0])}
    added = max(found[ours[0]] - found[daemon], 0.001)
    floor = found[bare[0]] - found[daemon]
    yield Row(
        what="added to a token, one stream, p50",
        ours=added,
        unit="ms",
        against="uvicorn + httpx",
        floor=floor,
        goal=0.1,
    )
    loaded = {}
    for url, process in (ours, bare):
        before = process.cpu_times()
        began = time.monotonic()
        loaded[url] = asyncio.run(_streams(url, tokens))
        after, took_s = process.cpu_times(), time.monotonic() - began
        used = (after.user + after.system - before.user - before.system) / took_s
        loaded[url].append(used)
    what = f"CPU for {STREAMS} streams of {TOKENS_PER_S} tokens/s"
    yield Row(
        what=what,
        ours=loaded[ours[0]].pop() * 100,
        unit="%",
        against="uvicorn + httpx",
        floor=loaded[bare[0]].pop() * 100,
        goal=50,
    )
    with python("-c", SCRAPES):
        beside = asyncio.run(_streams(ours[0], tokens))
        direct_delays = asyncio.run(_streams(daemon, tokens))
    yield Row(
        what="delay of a token beside scrapes of 8,000 samples, p99",
        ours=_p99(beside),
        unit="ms",
        against="without a tap",
        floor=_p99(direct_delays),
        goal=10,
    )


async def _requests(urls: list[str], count: int) -> list[float]:
    """Ask each URL in turn over one connection each; return the median of each, ms."""
    links = [await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port) for url in urls]
    times: list[list[float]] = [[] for _ in urls]
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n" % KEY.encode()
    request = head + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
    for number in range(count + count // 10):
        for kept, (reader, writer) in zip(times, links, strict=True):
            began = time.perf_counter()
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200"), answer
            await _rest(reader, answer)
            if number >= count // 10:  # after a few to warm up
                kept.append((time.perf_counter() - began) * 1000)
    for _, writer in links:
        writer.close()
    return [statistics.median(kept) for kept in times]


async def _rest(reader: asyncio.StreamReader, head: bytes) -> None:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            await reader.readexactly(int(line[15:]))
            return
    await reader.readuntil(b"0\r\n\r\n")


async def _one_stream(url: str, tokens: int) -> float:
    return statistics.median(await _delays(url, tokens))


async def _streams(url: str, tokens: int) -> list[float]:
    found = await asyncio.gather(*(_delays(url, tokens) for _ in range(STREAMS)))
    return [delay for delays in found for delay in delays]


async def _delays(url: str, tokens: int) -> list[float]:
    """Read one stream; return how long each token was under way, ms."""
    body = b'{"model":"bench","messages":[],"stream":true,"max_tokens":%d,"temperature":%d}' % (
        tokens,
        TOKENS_PER_S,
    )
    reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    writer.write(head + b"content-length: %d\r\n\r\n%b" % (len(body), body))
    delays: list[float] = []
    rest = b""
    while b"[DONE]" not in rest:
        data = await reader.read(1 << 16)
        now = time.monotonic_ns()
        rest = rest[-_STAMP_BYTES:] + data
        stamps = _STAMP.findall(rest)
        delays += [(now - int(stamp)) / 1e6 for stamp in stamps]
        if stamps:
            rest = rest[rest.rindex(stamps[-1]) + len(stamps[-1]) :]
    writer.close()
    return delays


def _p99(delays: list[float]) -> float:
    return statistics.quantiles(delays, n=100)[98]
