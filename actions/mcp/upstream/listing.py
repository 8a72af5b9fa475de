"""The tools of a server as last listed, bounded, with a fingerprint of each.

A fingerprint covers the whole definition, `_meta`, icons and execution included, so that a description rewritten after
approval (a "rug pull") is detected.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Final

import mcp_types as types
from mcp.client import ClientSession

from actions.mcp.identifiers import name_fault

MAX_TOOLS: Final = 500
"""Tools of one server. Each is a label value."""

MAX_PAGES: Final = 50
"""Pages of one listing, to end endless pagination."""

MAX_DEFINITION: Final = 65_536
"""Characters of one tool's definition, as much as an approval shows."""

MAX_LISTING: Final = 8 * 1024 * 1024
"""Characters of all definitions. No further page is read beyond it."""


def definition(tool: types.Tool) -> str:
    """Return the canonical text of a tool's definition."""
    fields = tool.model_dump(by_alias=True, mode="json", exclude_none=True)
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


class Listing:
    """The tools of one server as last listed. Duplicates and tools beyond the limits are dropped."""

    def __init__(self, tools: Iterable[types.Tool] = ()) -> None:
        self.tools: dict[str, types.Tool] = {}
        self.fingerprints: dict[str, str] = {}
        self.dropped = 0
        self._left = MAX_LISTING
        self.add(tools)

    @property
    def is_full(self) -> bool:
        """Whether more tools would be dropped."""
        return len(self.tools) >= MAX_TOOLS or self._left <= 0

    def add(self, tools: Iterable[types.Tool]) -> None:
        """Add one page."""
        for tool in tools:
            text = definition(tool)
            self._left -= len(text)
            if (
                self.is_full
                or tool.name in self.tools
                or name_fault(tool.name) is not None
                or len(text) > MAX_DEFINITION
            ):
                self.dropped += 1
            else:
                self.tools[tool.name] = tool
                self.fingerprints[tool.name] = hashlib.sha256(text.encode()).hexdigest()


async def read_tools(session: ClientSession, timeout_s: float) -> Listing:
    """Read the tools page by page, up to the limits. Raises MCPError, ValidationError."""
    listing, cursor = Listing(), None
    for _ in range(MAX_PAGES):
        page = await session.send_request(
            types.ListToolsRequest(params=types.PaginatedRequestParams(cursor=cursor)),
            types.ListToolsResult,
            request_read_timeout_seconds=timeout_s,
        )
        listing.add(page.tools)
        cursor = page.next_cursor
        if cursor is None or listing.is_full:
            break
    return listing
