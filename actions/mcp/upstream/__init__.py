"""Upstream MCP servers: their specification, connections over stdio and HTTP, limits, listings."""
