"""Requests in flight and reports of those that are over, kept until the exporter has fetched them.

Bounded: an exporter that stays away longer than MAX_REPORTS requests finds a gap, and is told how large.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections import Counter, deque
from collections.abc import Sequence
from itertools import islice
from typing import Final

import msgspec

from exporter.tap.clients import Clients
from exporter.tap.exchange import Clocks, Exchange
from exporter.tap.report import MAX_LIVE, Batch, Report
from exporter.tap.transcript import Text, Transcripts

MAX_REPORTS: Final = 20_000
MAX_BATCH: Final = 1_000
_NUMBER: Final = re.compile(r"[0-9]{1,15}")


class Registry:
    """The tap's requests."""

    def __init__(
        self,
        clients: Clients,
        *,
        gap_bounds: Sequence[float],
        custom_tags: tuple[tuple[str, str], ...] = (),
        clocks: Clocks | None = None,
        keeps_text: bool = False,
    ) -> None:
        """`keeps_text`: what models write is copied, for the door that a token opens."""
        self.clients = clients
        self.counts: Counter[str] = Counter()
        """What the tap counts of itself, by name."""
        self._boot = secrets.token_hex(8)
        self._bounds = tuple(gap_bounds)
        self._custom = custom_tags
        self._clocks = clocks or Clocks()
        self._transcripts = Transcripts(self._clocks.monotonic) if keeps_text else None
        self._number = 0
        self._running: dict[int, Exchange] = {}
        self._reports: deque[Report] = deque(maxlen=MAX_REPORTS)
        self._ended = 0
        self._news = asyncio.Event()
        self._fetched: int | None = None  # the last report that was fetched; None without a reader
        self._fetches = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """Requests that are not over."""
        return len(self._running)

    def begin(
        self, *, client: str, route: str, method: str, traceparent: str = "", predicts: bool
    ) -> Exchange:
        """Note a request that was accepted."""
        self._number += 1
        exchange = Exchange(
            self._number,
            client=client,
            route=route,
            method=method,
            clocks=self._clocks,
            gap_bounds=self._bounds,
            custom_tags=self._custom,
            traceparent=traceparent,
            predicts=predicts,
        )
        if predicts and self._transcripts is not None:
            exchange.meter.transcript = self._transcripts.begin(exchange.number)
        self._running[exchange.number] = exchange
        return exchange

    def text(self, request: str, start: int) -> Text | None:
        """Give what a request wrote from character `start` on; None where no text of it is kept.

        `request` is BOOT-ID: an id of another life of the tap is another request's.
        """
        boot, _, digits = request.partition("-")
        if self._transcripts is None or boot != self._boot or not _NUMBER.fullmatch(digits):
            return None
        return self._transcripts.read(int(digits), start)

    def end(self, exchange: Exchange, *, cancelled: bool = False, cut: bool = False) -> None:
        """Note its end, once; a second call does nothing."""
        if self._running.pop(exchange.number, None) is None:
            return
        report = exchange.report(cancelled=cancelled, cut=cut)
        if self._transcripts is not None:
            self._transcripts.end(exchange.number, report.error or report.finish)
        self._ended += 1
        # By their end: a reader asks for what ended since.
        self._reports.append(msgspec.structs.replace(report, id=self._ended))
        self._news.set()

    async def batch(self, boot: str, after: int, *, within_s: float) -> Batch:
        """Give reports from number `after` on, waiting for one at most `within_s`.

        Numbers of a former process are ignored: a reader with one starts with the requests that end from now on.
        """
        if self._transcripts is not None:
            self._transcripts.forget()
        is_known = boot == self._boot
        if is_known:
            self._fetched = after - 1
            self._fetches.set()
        if not is_known:
            after = self._ended + 1
        elif after > self._ended and within_s > 0:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._news.wait()
        first = self._ended - len(self._reports) + 1
        begin = max(after, first)
        chosen = tuple(islice(self._reports, begin - first, begin - first + MAX_BATCH))
        return Batch(
            boot=self._boot,
            next_id=begin + len(chosen),
            missed=max(0, first - after) if is_known else 0,
            reports=chosen,
            live=tuple(exchange.live() for exchange in islice(self._running.values(), MAX_LIVE)),
            running=Counter(exchange.client for exchange in self._running.values()),
            counts=dict(self.counts),
        )

    async def all_fetched(self) -> None:
        """Wait until a reader, if there is one, has asked for what comes after the last report."""
        while self._fetched is not None and self._fetched < self._ended:
            self._fetches.clear()
            await self._fetches.wait()
