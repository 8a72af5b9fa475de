"""How the daemon's own MCP plugins fare, from its log: harmless standard error output told from real errors.

Knows no tool and no gate: these are the servers that the daemon runs itself, past the gate or before adoption too.

Source: server.log lines such as `[2026-08-08 22:40:13][ERROR][Plugin(mcp/filesystem)] stderr: ...`. Everything that a
plugin writes to its standard error is logged as ERROR, its greeting included. Observed: the bracketed stamp may be
missing. Assumed: a text that matches no known sign of trouble is harmless.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from actions.metrics import Metrics
from exporter.catalogue import mcp as rows
from exporter.llmster.client import DaemonClient
from exporter.llmster.errors import LlmsterError
from exporter.llmster.events import ServerLog, parse_message

log = logging.getLogger(__name__)

REOPEN_AFTER_S: Final = 1.0

MAX_SERVERS: Final = 50
"""Names out of a log are names from outside; further ones are counted together."""

_MAX_CHARS: Final = 500

# Anchored at the start of a line, and closed: a model that writes such a text in mid-line is not heard.
_LINE: Final = re.compile(
    r"^(?:\[\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[^\]\n]*\])?\s*(?:\[(?P<level>[A-Z]+)\])?\s*"
    r"\[Plugin\(mcp/(?P<server>[^()\]\s]{1,100})\)\]\s*(?P<text>[^\n]*)",
    re.MULTILINE,
)
_TROUBLE: Final = re.compile(
    r"no such file or directory|command not found|not recognized as|ENOENT|EACCES|EADDRINUSE|ECONNREFUSED|EPIPE"
    r"|cannot find (module|package)|module ?not ?found|traceback \(most recent call last\)|\bpanic(ked)?\b"
    r"|\bfatal\b|unhandled (promise )?rejection|uncaught|segmentation fault|out of memory|permission denied"
    r"|exited? with (code|status) [1-9]|\bsignal SIG|connection closed|MCP error -3|npm err(or)?[ !]"
    r"|^(\w+\.)*\w*(Error|Exception)\b\s*:|^error\b\s*[:!]|failed to (start|connect|spawn|launch|initiali[sz]e)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class PluginMessage:
    """One line about a plugin."""

    server: str
    is_error: bool
    text: str
    """As logged, shortened. It may hold arguments: for a person, not for a metric."""


def read_messages(event: ServerLog) -> Iterator[PluginMessage]:
    """Find the lines about MCP plugins in one event."""
    for match in _LINE.finditer(event.content):
        text = match["text"][:_MAX_CHARS]
        bare = text.removeprefix("stderr:").strip()
        level = match["level"] or event.level.upper()
        from_stderr = text.startswith("stderr:")
        is_error = bool(_TROUBLE.search(bare)) or (level == "ERROR" and not from_stderr)
        yield PluginMessage(match["server"], is_error, text)


class PluginHealth:
    """Counts what the log says about plugins, and keeps the last error of each."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.last_errors: dict[str, str] = {}
        self._known: set[str] = set()

    def feed(self, event: ServerLog) -> None:
        """Take in one event of the daemon's log."""
        if "Plugin(mcp/" not in event.content:
            return
        for message in read_messages(event):
            server = message.server
            if server not in self._known:
                if len(self._known) >= MAX_SERVERS:
                    server = "other"
                else:
                    self._known.add(server)
                for kind in ("error", "notice"):
                    self._metrics.count(rows.PLUGIN_MESSAGES, server, kind, by=0)
            self._metrics.count(rows.PLUGIN_MESSAGES, server, "error" if message.is_error else "notice")
            if message.is_error:
                self.last_errors[server] = message.text

    async def watch(self, client: DaemonClient) -> None:
        """Read a daemon's log for ever. An ended stream is opened again; what was logged meanwhile is not seen."""
        while True:
            await client.connected()
            try:
                async with client.log_channel() as channel:
                    async for raw in channel:
                        event = parse_message(raw)
                        if isinstance(event, ServerLog):
                            self.feed(event)
            except LlmsterError as error:
                log.debug("log stream ended", extra={"daemon": client.name, "problem": str(error)})
            await asyncio.sleep(REOPEN_AFTER_S)
