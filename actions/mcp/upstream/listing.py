"""What tools a server offers now, bounded, and the fingerprint of each.

A fingerprint covers everything a client is told about a tool, `_meta`, icons and execution too: a server that rewrites
a description after it was trusted (a "rug pull") changes it.
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
"""Of one server. More do not fit into any model's context, and each is a label value."""

MAX_PAGES: Final = 50
"""Of one listing: a paginator that never ends is not followed for ever."""

MAX_DEFINITION: Final = 65_536
"""Characters of one tool's definition: more cannot be shown to whoever approves it."""

MAX_LISTING: Final = 8 * 1024 * 1024
"""Characters of all definitions; more pages are not read."""


def definition(tool: types.Tool) -> str:
    """Write all that a client is told about a tool, in one way."""
    told = tool.model_dump(by_alias=True, mode="json", exclude_none=True)
    return json.dumps(told, sort_keys=True, separators=(",", ":"))


class Listing:
    """The tools of one server as last listed. Of two with one name the first counts; what is too much is dropped."""

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
        """Take in one page."""
        for tool in tools:
            told = definition(tool)
            self._left -= len(told)
            if (
                self.is_full
                or tool.name in self.tools
                or name_fault(tool.name) is not None
                or len(told) > MAX_DEFINITION
            ):
                self.dropped += 1
            else:
                self.tools[tool.name] = tool
                self.fingerprints[tool.name] = hashlib.sha256(told.encode()).hexdigest()


async def read_tools(session: ClientSession, timeout_s: float) -> Listing:
    """Read the tools page by page, until there are no more or enough. Raises MCPError, ValidationError."""
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
