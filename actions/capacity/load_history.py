"""Stores the measured memory of past loads, which corrects the daemon's estimates.

Does not depend on NVML: the caller passes readings before and after a load.
"""

from __future__ import annotations

import json
import sqlite3
import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from actions.domain.correction import USED, Sample
from actions.domain.preflight import Learned, MemoryReading
from actions.store.database import Storage
from actions.store.sizes import MAX_MARK_CHARS

REMEMBERED: Final = 5
"""The ratio is the median of so many loads of a model: an engine update changes it, one odd load must not."""

KEPT_PER_DAEMON: Final = 1000


@dataclass(frozen=True, slots=True)
class Measured:
    """What appeared on the GPUs when a model was loaded."""

    pid: int
    by_gpu: Mapping[int, int]

    @property
    def total_bytes(self) -> int:
        """Over all GPUs."""
        return sum(self.by_gpu.values())


def measure(before: MemoryReading, after: MemoryReading) -> Measured | None:
    """Find the one process that appeared in between; None when there is none, or several, or it is unknown.

    Source: one engine process per loaded model on Linux and Windows, its memory allocated at load.
    """
    known = {holder.pid for holder in before.holders}
    new = {holder.pid for holder in after.holders if holder.pid is not None} - known
    if len(new) != 1:
        return None
    (pid,) = new
    by_gpu: dict[int, int] = {}
    for holder in after.holders:
        if holder.pid == pid:
            by_gpu[holder.gpu] = by_gpu.get(holder.gpu, 0) + holder.memory_bytes
    return Measured(pid, by_gpu) if sum(by_gpu.values()) > 0 else None


class LoadHistory:
    """The measured loads of one database."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def remember(
        self, *, daemon: str, model: str, instance_reference: str, estimated_bytes: int, measured: Measured
    ) -> None:
        """Keep one load, of names of ordinary length. Raises StorageFailed."""
        if max(len(model), len(instance_reference)) > MAX_MARK_CHARS:
            return
        values = (
            daemon,
            instance_reference,
            model,
            time.time_ns() // 1_000_000,
            estimated_bytes,
            measured.total_bytes,
            json.dumps({str(gpu): size for gpu, size in measured.by_gpu.items()}),
            measured.pid,
        )

        def write(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR REPLACE INTO load_memory VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
            db.execute(
                "DELETE FROM load_memory WHERE daemon = ?1 AND at_ms < (SELECT at_ms FROM load_memory"
                " WHERE daemon = ?1 ORDER BY at_ms DESC LIMIT 1 OFFSET ?2)",
                (daemon, KEPT_PER_DAEMON),
            )

        await self._storage.write(write)

    async def learned(self, daemon: str) -> dict[str, Learned]:
        """Tell what was learned, by model. Raises StorageFailed."""
        rows = await self._storage.read(
            lambda db: db.execute(
                "SELECT model, actual_bytes * 1.0 / estimated_bytes AS ratio FROM load_memory"
                " WHERE daemon = ? AND estimated_bytes > 0 ORDER BY at_ms DESC",
                (daemon,),
            ).fetchall()
        )
        ratios: dict[str, list[float]] = {}
        for row in rows:
            ratios.setdefault(row["model"], []).append(row["ratio"])
        return {
            model: Learned(statistics.median(found[:REMEMBERED]), len(found))
            for model, found in ratios.items()
        }

    async def samples(self, daemon: str, model: str) -> list[Sample]:
        """List the measured loads of a model, newest first. Raises StorageFailed."""
        rows = await self._storage.read(
            lambda db: db.execute(
                "SELECT estimated_bytes, actual_bytes FROM load_memory WHERE daemon = ? AND model = ?"
                " ORDER BY at_ms DESC LIMIT ?",
                (daemon, model, USED),
            ).fetchall()
        )
        return [Sample(row["estimated_bytes"], row["actual_bytes"]) for row in rows]

    async def pids(self, daemon: str, references: Iterable[str]) -> dict[str, int]:
        """Tell which process appeared for a loaded instance, by instance reference. Raises StorageFailed."""
        wanted = set(references)
        rows = await self._storage.read(
            lambda db: db.execute(
                "SELECT instance_reference, pid FROM load_memory WHERE daemon = ?", (daemon,)
            ).fetchall()
        )
        return {row["instance_reference"]: row["pid"] for row in rows if row["instance_reference"] in wanted}
