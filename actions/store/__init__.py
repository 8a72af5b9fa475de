"""One SQLite database: operations, audit log, desired state, MCP tables."""
