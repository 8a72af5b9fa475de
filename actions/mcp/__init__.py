"""The Toolchain: an MCP gate between llmster and its tools. Every call is decided, audited, limited, then passed on.

Knows MCP only through the official SDK. `actions/mcp_gate.py` ties it to the actions API.
"""
