"""Imports private names of the MCP SDK, in one place; tests/actions/mcp/upstream/test_sdk.py fails when they change.

The SDK has no public name for the pair of streams that its client takes.
"""

from __future__ import annotations

from mcp.client._transport import ReadStream, TransportStreams, WriteStream
from mcp.shared.message import SessionMessage

Reads = ReadStream[SessionMessage | Exception]
Writes = WriteStream[SessionMessage]

__all__ = ["Reads", "TransportStreams", "Writes"]
