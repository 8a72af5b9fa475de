"""Fetches reports from a tap for as long as the exporter lives, and keeps the latest list of what is in flight.

Text of a request is fetched on request, and not kept here.

An unreachable tap costs its own values only. Requests that ended meanwhile and were not fetched are counted as
missed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final, NoReturn

import httpx
import msgspec

from exporter.llmster import http_body
from exporter.shared.live_token import LiveToken
from exporter.tap.report import Batch, Live, Report
from exporter.tap.transcript import Text

log = logging.getLogger(__name__)

WAIT_S: Final = 1.0
"""A fetch waits so long for news, and so the list of what is in flight is as old at most."""
PAUSE_S: Final = 0.1
"""Between two fetches, so that a burst comes in batches."""
RETRY_S: Final = 2.0
_TIMEOUT: Final = httpx.Timeout(5.0, read=WAIT_S + 5.0)
MAX_TEXT_BYTES: Final = 1024 * 1024
_TEXT_S: Final = 2.0


class TapReader:
    """Reads one tap. `run()` must be kept going by the owner's task group."""

    def __init__(
        self,
        daemon: str,
        url: str,
        *,
        take: Callable[[Report], None],
        tick: Callable[[], None],
        live_token: LiveToken | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`take` gets each report, `tick` is called after each fetch, whether it worked or not."""
        self.daemon = daemon
        self.missed = 0
        self.failures = 0
        """Reports whose taking raised."""
        self._url = url
        self._take = take
        self._live_token = live_token
        self._http: httpx.AsyncClient | None = None
        self._tick = tick
        self._clock = clock
        self._boot = ""
        self._next = 1
        self._latest: Batch | None = None
        self._fetched_at = float("-inf")
        self._decoder = msgspec.json.Decoder(Batch)
        self._texts = msgspec.json.Decoder(Text)

    @property
    def is_up(self) -> bool:
        """Whether the latest fetch worked."""
        return self._latest is not None

    @property
    def live(self) -> tuple[Live, ...]:
        """What was in flight a second ago, with what has elapsed since."""
        if self._latest is None:
            return ()
        age_s = max(0.0, self._clock() - self._fetched_at)
        return tuple(
            msgspec.structs.replace(live, elapsed_s=live.elapsed_s + age_s) for live in self._latest.live
        )

    @property
    def shows_text(self) -> bool:
        """Whether text can be asked for; the tap may keep none."""
        return self._live_token is not None

    @property
    def boot(self) -> str:
        """Names this life of the tap: with a request's id it names the request."""
        return self._boot

    @property
    def running(self) -> dict[str, int]:
        """Number of requests in flight by client, also those that the list has no room for."""
        return self._latest.running if self._latest is not None else {}

    @property
    def counts(self) -> dict[str, int]:
        """What the tap counts of itself; empty while it is away."""
        return self._latest.counts if self._latest is not None else {}

    async def run(self) -> NoReturn:
        """Fetch for ever. Raises nothing but cancellation."""
        async with httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False) as http:
            self._http = http
            while True:
                worked = await self._fetch(http)
                self._tick()
                await asyncio.sleep(PAUSE_S if worked else RETRY_S)

    async def _fetch(self, http: httpx.AsyncClient) -> bool:
        try:
            query = {"boot": self._boot, "after": str(self._next), "wait": str(WAIT_S)}
            batch = self._decoder.decode(await self._get(http, "/reports", query))
        except (httpx.HTTPError, msgspec.MsgspecError, ValueError) as error:
            if self._latest is not None or self._fetched_at == float("-inf"):
                log.warning(
                    "tap not answering",
                    extra={"daemon": self.daemon, "problem": f"{type(error).__name__}: {error}"},
                )
                self._fetched_at = self._clock()
            self._latest = None
            return False
        if self._latest is None:
            log.info("tap connected", extra={"daemon": self.daemon, "url": self._url})
        self.missed += batch.missed
        self._boot, self._next = batch.boot, batch.next_id
        self._latest, self._fetched_at = batch, self._clock()
        for report in batch.reports:
            try:
                self._take(report)
            except Exception:
                self.failures += 1
                if self.failures == 1:
                    log.exception("a report of the tap was lost", extra={"daemon": self.daemon})
        return True

    async def text(self, request: str, start: int) -> Text | None:
        """Fetch what a request wrote from character `start` on; None without text, or where the tap is away."""
        if self._http is None or self._live_token is None:
            return None
        query = {"request": request, "after": str(start)}
        headers = {"authorization": self._live_token.header}
        try:
            async with asyncio.timeout(_TEXT_S):
                body = await self._get(self._http, "/text", query, headers=headers, most_bytes=MAX_TEXT_BYTES)
            return self._texts.decode(body)
        except (httpx.HTTPError, msgspec.MsgspecError, ValueError, TimeoutError):
            return None

    async def _get(
        self,
        http: httpx.AsyncClient,
        path: str,
        query: Mapping[str, str],
        *,
        headers: Mapping[str, str] | None = None,
        most_bytes: int = http_body.MAX_BYTES,
    ) -> bytes:
        """Read a body. Raises httpx.HTTPError, and ValueError for any status but 200."""
        url = self._url + path
        answer = await http_body.ask(http, "GET", url, params=query, headers=headers, most_bytes=most_bytes)
        if answer.status != httpx.codes.OK:
            raise ValueError(f"status {answer.status}")
        return answer.body
