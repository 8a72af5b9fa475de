"""Tables of the MCP gate: policy overrides, definitions of approved tools, and approvals.

A step of actions/store/migrations.py.
"""

from __future__ import annotations

from typing import Final

MCP_GATE: Final = """
-- Set through the API; asked before the policy file's rules.
CREATE TABLE mcp_rules (
    server      TEXT NOT NULL,
    tool        TEXT NOT NULL,
    decision    TEXT NOT NULL CHECK (decision IN ('allow', 'deny', 'ask')),
    actor       TEXT NOT NULL,
    at_ms       INTEGER NOT NULL,
    PRIMARY KEY (server, tool)
) STRICT;

-- A tool's description and schema as they were first seen, or last approved.
CREATE TABLE mcp_pins (
    server      TEXT NOT NULL,
    tool        TEXT NOT NULL,
    fingerprint TEXT NOT NULL,              -- SHA-256
    at_ms       INTEGER NOT NULL,
    PRIMARY KEY (server, tool)
) STRICT;

CREATE TABLE mcp_approvals (
    id          TEXT PRIMARY KEY,
    server      TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('tool', 'prompt', 'resource')),
    name        TEXT NOT NULL,
    token       TEXT NOT NULL,              -- name of the caller's token
    rule        TEXT NOT NULL,
    reason      TEXT NOT NULL,
    preview     TEXT,                       -- redacted arguments; NULL once decided, unless capture is on
    digest      TEXT NOT NULL,
    created_ms  INTEGER NOT NULL,
    expires_ms  INTEGER NOT NULL,
    state       TEXT NOT NULL
        CHECK (state IN ('pending', 'approved', 'denied', 'expired', 'cancelled', 'interrupted')),
    decided_by  TEXT,
    decided_ms  INTEGER,
    standing    INTEGER NOT NULL DEFAULT 0 CHECK (standing IN (0, 1))  -- 1: "always for this tool"
) STRICT;
CREATE INDEX mcp_approvals_pending ON mcp_approvals (created_ms) WHERE state = 'pending';
CREATE INDEX mcp_approvals_by_time ON mcp_approvals (created_ms);
"""

MCP_BOUND: Final = """
-- What an approval is bound to, and what the person sees of it.
ALTER TABLE mcp_approvals ADD COLUMN definition TEXT;                       -- the tool as listed; NULL once decided
ALTER TABLE mcp_approvals ADD COLUMN definition_sha256 TEXT NOT NULL DEFAULT '';
ALTER TABLE mcp_approvals ADD COLUMN policy_sha256 TEXT NOT NULL DEFAULT '';

-- The policy file that was last in force, to stay in force when it cannot be read after a restart.
CREATE TABLE mcp_policy (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    sha256      TEXT NOT NULL,
    document    TEXT NOT NULL,
    at_ms       INTEGER NOT NULL
) STRICT;

-- How an upstream server was reached, and whether it speaks `initialize` rather than `server/discover`.
CREATE TABLE mcp_servers (
    server      TEXT PRIMARY KEY,
    reach       TEXT NOT NULL,              -- SHA-256
    speaks_initialize INTEGER NOT NULL CHECK (speaks_initialize IN (0, 1))
) STRICT;
"""
