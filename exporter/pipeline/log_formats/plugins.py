"""Reads lines about the daemon's own MCP plugins, and tells errors from harmless standard error output.

Source: `[2026-08-08 22:40:13][ERROR][Plugin(mcp/filesystem)] stderr: ...`. Everything that a plugin writes to its
standard error is logged as ERROR, its greeting too. Observed: the stamp may be missing. Assumed: text that matches
no known sign of an error is harmless.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from exporter.pipeline.log_formats import stamps

MARK: Final = "[Plugin(mcp/"
MAX_LINES: Final = 200
"""Lines read of one event; a longer one is a plugin's dump."""
_MAX_CHARS: Final = 500

_SERVER: Final = re.compile(r"Plugin\(mcp/(?P<server>[^()\]\s]{1,100})\)")
_ERROR: Final = re.compile(
    r"no such file or directory|command not found|not recognized as|ENOENT|EACCES|EADDRINUSE|ECONNREFUSED|EPIPE"
    r"|cannot find (?:module|package)|module ?not ?found|traceback \(most recent call last\)|\bpanic(?:ked)?\b"
    r"|\bfatal\b|unhandled (?:promise )?rejection|uncaught|segmentation fault|out of memory|permission denied"
    r"|exited? with (?:code|status) [1-9]|\bsignal SIG|connection closed|MCP error -3|npm err(?:or)?[ !]"
    r"|^[\w.]{0,100}(?:Error|Exception)\b {0,4}:|^error\b {0,4}[:!]"
    r"|failed to (?:start|connect|spawn|launch|initiali[sz]e)",
    re.IGNORECASE,
)


class PluginLine(msgspec.Struct, frozen=True, gc=False):
    """One line about a plugin."""

    server: str
    is_error: bool


def read(text: str, level: str) -> Iterator[PluginLine]:
    """Find the lines about MCP plugins in an event of server.log; each must begin its line."""
    at = lines = 0
    while lines < MAX_LINES and text.find(MARK, at) >= 0:
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        stamp = stamps.read(text[at : min(end, at + 400)])
        match = _SERVER.fullmatch(stamp.bracket) if stamp.bracket else None
        if match is not None:
            said = text[at + stamp.end : min(end, at + stamp.end + _MAX_CHARS)].strip()
            from_stderr = said.startswith("stderr:")
            severe = (stamp.level or level.upper()) == "ERROR" and not from_stderr
            yield PluginLine(
                match["server"], severe or _ERROR.search(said.removeprefix("stderr:").strip()) is not None
            )
        at = end + 1
        lines += 1
