"""The source of the screen's data: a running exporter, or one that is started with the screen."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from daemonpulse.serving import serving
from daemonpulse.top.model import Sample, Screen, screen_of
from exporter import app
from exporter.llmster import http_body
from exporter.settings import ExporterSettings

TIMEOUT_S: Final = 10.0


class Unreadable(Exception):
    """The exporter did not answer with metrics. The message names the URL and the reason."""


class Source:
    """Scrapes one exporter and keeps the scrape before, from which rates are made."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._before: tuple[float, list[Sample]] | None = None
        self._has_live = True

    async def screen(self) -> Screen:
        """Read once. Raises Unreadable."""
        text = await self._get("/metrics")
        now_s = time.monotonic()
        try:
            samples = samples_of(text)
        except ValueError as error:
            raise Unreadable(f"{self._url}/metrics: not the Prometheus text format ({error})") from None
        before_s, before = self._before or (now_s, [])
        self._before = (now_s, samples)
        return screen_of(samples, before=before, elapsed_s=now_s - before_s, live=await self._live())

    async def _live(self) -> Mapping[str, Any]:
        """Read running and recent requests; an exporter without that endpoint has none."""
        if not self._has_live:
            return {}
        try:
            answer = await http_body.ask(self._http, "GET", f"{self._url}/live")
            body = json.loads(answer.body) if answer.is_success else None
        except (httpx.HTTPError, ValueError, RecursionError):
            return {}
        self._has_live = answer.status != httpx.codes.NOT_FOUND
        return body if isinstance(body, dict) else {}

    async def _get(self, path: str) -> str:
        try:
            answer = await http_body.ask(self._http, "GET", self._url + path)
        except httpx.HTTPError as error:
            raise Unreadable(f"{self._url}{path}: {str(error) or type(error).__name__}") from None
        if not answer.is_success:
            raise Unreadable(f"{self._url}{path}: HTTP {answer.status}")
        return answer.body.decode(errors="replace")


@contextlib.asynccontextmanager
async def source(url: str | None, settings: ExporterSettings) -> AsyncIterator[Source]:
    """Open the source: the exporter at `url`, else the one that `settings` describes, else a private one.

    A private exporter listens on a free loopback port, sends nothing by OTLP and ends with the screen. Raises
    Unreadable when `url` was given and does not answer.
    """
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S))
        if url is not None:
            yield Source(http, url)
            return
        running = f"http://127.0.0.1:{settings.listen_port}"
        if await _answers(http, running):
            yield Source(http, running)
            return
        yield Source(http, await stack.enter_async_context(_private(settings)))


async def _answers(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(f"{url}/healthz", timeout=1.0)).is_success
    except httpx.HTTPError:
        return False


@contextlib.asynccontextmanager
async def _private(settings: ExporterSettings) -> AsyncIterator[str]:
    own = dataclasses.replace(
        settings, listen_host="127.0.0.1", listen_port=0, web_config=None, capture="off", log_level="error"
    )
    async with serving(app.serve, own) as (_, (url,)):
        yield url


def samples_of(text: str) -> list[Sample]:
    """Read an exposition. Raises ValueError for what is not Prometheus' text format."""
    return [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
