"""What a server offers now, and whether its tools are still what was approved.

Knows no transport. A fingerprint covers everything a model is told about a tool: a server that rewrites a description
after it was trusted (a "rug pull") changes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Final

import mcp_types as types

from actions.mcp.identifiers import name_fault

MAX_TOOLS: Final = 500
"""Of one server. More do not fit into any model's context, and each is a label value."""

MAX_PAGES: Final = 50
"""Of one listing: a paginator that never ends is not followed for ever."""

_TOLD: Final = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")


def fingerprint(tool: types.Tool) -> str:
    """Hash what a model is told about a tool."""
    dumped = tool.model_dump(by_alias=True, mode="json", exclude_none=True)
    told = {key: dumped[key] for key in _TOLD if key in dumped}
    return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Listing:
    """The tools of one server as last listed. Of two with one name the first counts; what is too much is dropped."""

    def __init__(self, tools: Iterable[types.Tool] = ()) -> None:
        self.tools: dict[str, types.Tool] = {}
        self.dropped = 0
        for tool in tools:
            if tool.name in self.tools or len(self.tools) >= MAX_TOOLS or name_fault(tool.name) is not None:
                self.dropped += 1
            else:
                self.tools[tool.name] = tool
        self.fingerprints = {name: fingerprint(tool) for name, tool in self.tools.items()}
