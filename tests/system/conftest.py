"""Starts the real exporter, in this process and on a real port, for tests that scrape it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter import app
from exporter.hardware.gpus import GpuSource
from exporter.hardware.host import HostSource
from exporter.settings import DaemonSettings, ExporterSettings
from exporter.shared.api_token import Secret
from exporter.shared.live_token import LiveToken
from tests.hosts import Gpus, Host

Labels = dict[str, str]


@dataclass(frozen=True, slots=True)
class Scraped:
    """The samples of one scrape, with the questions tests ask of them."""

    samples: list[tuple[str, Labels, float]]
    took_s: float

    def value(self, name: str, **labels: str) -> float | None:
        """The only sample of this name that has these labels; None when there is none."""
        found = [
            value for sample, own, value in self.samples if sample == name and labels.items() <= own.items()
        ]
        assert len(found) <= 1, f"{name}{labels} is ambiguous: {found}"
        return found[0] if found else None

    def names(self, **labels: str) -> set[str]:
        """Names of all samples that have these labels."""
        return {name for name, own, _ in self.samples if labels.items() <= own.items()}

    def state(self, daemon: str) -> str:
        """The value of the label `state` that is 1 for a daemon."""
        states = [
            labels["state"]
            for name, labels, value in self.samples
            if name == "llmster_daemon_state" and labels["daemon"] == daemon and value == 1
        ]
        assert len(states) == 1, states
        return states[0]


@dataclass(slots=True)
class Scraper:
    """A client of an exporter that serves somewhere."""

    url: str
    http: httpx.AsyncClient = field(repr=False)

    async def get(self, path: str = "/metrics", **headers: str) -> httpx.Response:
        """GET a path; header names take _ for -."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            return await self.http.get(self.url + path, headers=named)
        except (httpx.ReadError, httpx.RemoteProtocolError):
            # As every scraper does (Go's net/http): the connection was kept, and ended as it was used again.
            return await self.http.get(self.url + path, headers=named)

    async def scrape(self, path: str = "/metrics", *, timeout_s: float = 10) -> Scraped:
        """Scrape as Prometheus does, with its timeout header."""
        started = time.monotonic()
        response = await self.get(path, x_prometheus_scrape_timeout_seconds=str(timeout_s))
        took_s = time.monotonic() - started
        assert response.status_code == 200, response.text
        samples = [
            (sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(response.text)
            for sample in family.samples
        ]
        return Scraped(samples, took_s)

    async def until(self, true_of: Callable[[Scraped], bool], *, within_s: float = 60) -> Scraped:
        """Scrape until something is true; fail when it does not come true in time."""
        async with asyncio.timeout(within_s):
            while not true_of(scraped := await self.scrape()):  # noqa: ASYNC110 - seen only by scraping
                await asyncio.sleep(0.05)  # what is awaited happens in the exporter, not in this test
        return scraped


@dataclass(slots=True)
class RunningExporter(Scraper):
    """An exporter that serves in this process, and a client for it."""

    task: asyncio.Task[None] = field(repr=False)


StartExporter = Callable[..., Awaitable[RunningExporter]]


def daemon(
    name: str, url: str, *, token: str | None = None, home: Path | None = None, site: str = ""
) -> DaemonSettings:
    """Settings of one daemon."""
    secret = Secret(token) if token else None
    return DaemonSettings(name=name, url=url, token=secret, home=home, site=site)


@contextlib.asynccontextmanager
async def exporters() -> AsyncIterator[StartExporter]:
    """Give a function that starts exporters, `await start(daemon(...), ...)`; all are stopped at the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            *daemons: DaemonSettings,
            max_age_s: float = 0,
            web_config: Path | None = None,
            recording: BinaryIO | None = None,
            reasoning_tags: tuple[tuple[str, str], ...] = (),
            gpus: GpuSource | dict[str, GpuSource] | None = None,
            host: HostSource | None = None,
            capture: str = "off",
            live_token: LiveToken | None = None,
        ) -> RunningExporter:
            settings = ExporterSettings(
                listen_host="127.0.0.1",
                listen_port=0,
                web_config=web_config,
                max_age_s=max_age_s,
                log_level="debug",
                log_format="logfmt",
                log_stream=True,
                capture=capture,
                live_token=live_token,
                reasoning_tags=reasoning_tags,
                daemons=daemons,
            )
            urls: asyncio.Queue[str] = asyncio.Queue()
            task = asyncio.create_task(
                app.serve(
                    settings,
                    ready=urls.put_nowait,
                    recording=recording,
                    gpus=gpus if isinstance(gpus, dict) else {"nvidia": gpus or Gpus()},
                    host=host or Host(),
                )
            )
            stack.push_async_callback(_stop, task)
            async with asyncio.timeout(60):
                url = await urls.get()
            http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=30))
            return RunningExporter(url, http, task)

        yield start


@pytest.fixture
async def start_exporter() -> AsyncIterator[StartExporter]:
    """Start exporters as `exporters` does."""
    async with exporters() as start:
        yield start


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
