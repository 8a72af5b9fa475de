"""The Toolchain: an MCP gate between llmster and its tools. Every call is decided, audited, limited, then passed on.

Knows MCP only through the official SDK; speaks no JSON-RPC of its own. `actions/mcp_gate.py` ties it to the actions API.
"""
