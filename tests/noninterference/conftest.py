"""The running actions API of the MCP tests, for the twins that pass through it."""

from tests.actions.mcp.conftest import start

__all__ = ["start"]
