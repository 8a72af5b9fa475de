"""Watches mcp.json for servers that bypass the gate.

The metric is absent while the file cannot be read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from actions.mcp.file_signature import signature_of
from actions.mcp.mcp_json.adopt import NotAdoptable, is_gated, read
from actions.metrics import Metrics
from exporter.catalogue import mcp as rows

log = logging.getLogger(__name__)

PERIOD_S: Final = 5.0


class Drift:
    """Watches one mcp.json, in a thread, because the home may be on a slow disk."""

    def __init__(self, path: Path, *, gate_url: Callable[[], str], metrics: Metrics) -> None:
        self.path = path
        self._gate_url = gate_url
        self._metrics = metrics
        self.bypassing: tuple[str, ...] | None = None
        """Names of servers that bypass the gate; None while unknown."""
        self.problem: str | None = None
        self._seen: object = None
        self._looking = asyncio.Lock()

    def move(self, path: Path) -> None:
        """Watch another file."""
        self.path = path

    async def look(self) -> None:
        """Read the file if it changed, and set the metric. One look at a time."""
        async with self._looking:
            path = self.path
            mark = await asyncio.to_thread(signature_of, path)
            if (path, mark) == self._seen:
                return
            before = self.bypassing
            self.bypassing, self.problem = await asyncio.to_thread(self._read, path)
            self._seen = (path, mark)
            self._metrics.set(rows.CONFIG_DRIFT, None if self.bypassing is None else len(self.bypassing))
        if self.bypassing and self.bypassing != before:
            log.warning(
                "servers in mcp.json bypass the gate", extra={"servers": ",".join(self.bypassing)[:300]}
            )

    def _read(self, path: Path) -> tuple[tuple[str, ...] | None, str | None]:
        """Return the servers that bypass the gate, or why they are unknown."""
        if signature_of(path) is None:
            return (), None  # no file, no servers
        try:
            file = read(path)
        except NotAdoptable as error:
            return None, str(error)
        gate_url = self._gate_url()
        return tuple(
            name for name, entry in file.servers.items() if not is_gated(name, entry, gate_url)
        ), None

    async def run(self, is_wanted: Callable[[], bool], *, period_s: float = PERIOD_S) -> None:
        """Look every `period_s` while `is_wanted`, until cancelled."""
        while True:
            if is_wanted():
                await self.look()
            await asyncio.sleep(period_s)

    def to_json(self) -> dict[str, Any]:
        """Return the fields of the API."""
        return {
            "mcp_json": str(self.path),
            "bypassing": list(self.bypassing) if self.bypassing is not None else None,
            "problem": self.problem,
        }
