"""Reads free GPU memory from a Prometheus that scrapes the daemon's exporter, where the daemon is on another host.

A sample that is old, or of several hosts at once, is rejected.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Final

import httpx
import msgspec

from actions.capacity.local import LoadedModel, MemoryUnknown
from actions.domain.preflight import Gpu, Holder, MemoryReading
from exporter.catalogue import Metric, hardware
from exporter.llmster import http_body

MAX_AGE_S: Final = 60.0
"""Prometheus serves samples up to 5 min old; free memory of so long ago decides nothing."""
_TIMEOUT_S: Final = 5.0
_ALL_S: Final = 10.0
"""For all queries of one reading, however slowly their answers come."""


class PrometheusMemory:
    """Asks a Prometheus. `selector` picks one host, such as `instance="gpu-box:9810"`; "" takes the only one."""

    def __init__(self, url: str, *, selector: str, daemon: str) -> None:
        self._url = url.rstrip("/")
        self._selector = selector
        self._daemon = daemon

    async def read(self, _daemon_pid: int | None, _loaded: Sequence[LoadedModel]) -> MemoryReading:
        """Read what was scraped last. Raises MemoryUnknown."""
        try:
            # httpx's timeout is per read, and a load waits here in the daemon's turn.
            async with (
                asyncio.timeout(_ALL_S),
                httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as http,
            ):
                totals, _ = await self._by_gpu(http, hardware.MEMORY_TOTAL)
                free, age_s = await self._by_gpu(http, hardware.MEMORY_FREE)
                processes = await self._query(http, self._select(hardware.PROCESS_MEMORY))
                vram = await self._query(http, self._select(hardware.INSTANCE_VRAM, daemon=self._daemon))
        except TimeoutError:
            raise MemoryUnknown(f"Prometheus at {self._url} does not answer within {_ALL_S:g} s") from None
        if totals.keys() != free.keys():
            raise MemoryUnknown(f"Prometheus at {self._url} has not total and free memory of the same GPUs")
        held: dict[str, dict[int, int]] = {}
        for labels, value in vram:
            held.setdefault(labels.get("instance_id", ""), {})[_index(labels)] = round(value)
        return MemoryReading(
            source="prometheus",
            gpus=tuple(Gpu(index, totals[index], free[index]) for index in sorted(totals)),
            holders=tuple(
                Holder(
                    gpu=_index(labels),
                    memory_bytes=round(value),
                    pid=int(labels["pid"]) if labels.get("pid", "").isdecimal() else None,
                    process=labels.get("process") or None,
                    instance_id=labels.get("instance_id") or None,
                )
                for labels, value in processes
            ),
            held_by_instance=held,
            age_s=round(age_s, 1),
        )

    async def close(self) -> None:
        """Do nothing: every reading has its own connection."""

    async def _by_gpu(self, http: httpx.AsyncClient, metric: Metric) -> tuple[dict[int, int], float]:
        """Read a value of each GPU, and how old the oldest is. Raises MemoryUnknown."""
        select = self._select(metric)
        ages = await self._query(http, f"time() - timestamp({select})")
        if not ages:
            raise MemoryUnknown(f"Prometheus at {self._url} has no {select}")
        oldest_s = max(value for _, value in ages)
        if oldest_s > MAX_AGE_S:
            raise MemoryUnknown(f"Prometheus at {self._url} has not seen {metric.name} for {oldest_s:.0f} s")
        found: dict[int, int] = {}
        for labels, value in await self._query(http, select):
            if _index(labels) in found:
                raise MemoryUnknown(
                    f"Prometheus at {self._url} has {metric.name} of several hosts; "
                    'pick one with prometheus_selector, such as instance="gpu-box:9810"'
                )
            found[_index(labels)] = round(value)
        return found, max(0.0, oldest_s)

    def _select(self, metric: Metric, **labels: str) -> str:
        matchers = [self._selector, *(f'{name}="{value}"' for name, value in labels.items())]
        inside = ",".join(matcher for matcher in matchers if matcher)
        return f"{metric.name}{{{inside}}}" if inside else metric.name

    async def _query(self, http: httpx.AsyncClient, query: str) -> list[tuple[dict[str, str], float]]:
        try:
            answer = await http_body.ask(http, "GET", f"{self._url}/api/v1/query", params={"query": query})
            if not answer.is_success:
                raise MemoryUnknown(f"Prometheus at {self._url} answers HTTP {answer.status}")
            result: list[dict[str, Any]] = msgspec.json.decode(answer.body)["data"]["result"]
            return [(dict(entry["metric"]), _finite(entry["value"][1])) for entry in result]
        except httpx.HTTPError as error:
            raise MemoryUnknown(
                f"Prometheus at {self._url} does not answer ({type(error).__name__})"
            ) from error
        except (KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
            raise MemoryUnknown(f"Prometheus at {self._url} answered something unexpected") from error


def _finite(text: str) -> float:
    """Read a sample. Raises ValueError for NaN and infinity, which are no memory."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _index(labels: dict[str, str]) -> int:
    """Read the label `gpu`. Raises MemoryUnknown for what is no index."""
    if not labels.get("gpu", "").isdecimal():  # int() takes no superscripts, isdigit() does
        raise MemoryUnknown("Prometheus has a sample whose label gpu is no index")
    return int(labels["gpu"])
