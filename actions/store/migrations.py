"""The schema of the database, as migrations. A released step is never edited: add the next one.

Each step runs in one transaction and increments `PRAGMA user_version`.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from actions.store.mcp_tables import MCP_BOUND, MCP_GATE

_TOKENS_AUDIT_OPERATIONS: Final = """
CREATE TABLE tokens (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    scope       TEXT NOT NULL CHECK (scope IN ('read', 'operate', 'admin')),
    hash        BLOB NOT NULL,              -- SHA-256 of the secret part, which is 256 random bits
    created_ms  INTEGER NOT NULL,
    expires_ms  INTEGER,                    -- NULL: does not expire
    revoked_ms  INTEGER
) STRICT;

-- Append-only: a row's hash covers the row and the hash before it. Triggers stop accidents, the chain shows the rest.
CREATE TABLE audit (
    seq         INTEGER PRIMARY KEY,        -- 1, 2, 3... without gaps
    at_ms       INTEGER NOT NULL,           -- wall clock; seq is the order, also when the clock jumped
    kind        TEXT NOT NULL CHECK (kind IN ('intent', 'outcome', 'denied', 'event')),
    operation   TEXT,                       -- ties an outcome to its intent
    actor       TEXT NOT NULL,
    token_id    TEXT,
    person      TEXT,                       -- X-Grafana-User: a claim, not a proof
    address     TEXT,
    action      TEXT NOT NULL,
    subject     TEXT NOT NULL,
    detail      TEXT NOT NULL,              -- canonical JSON
    previous    TEXT NOT NULL,
    hash        TEXT NOT NULL
) STRICT;
CREATE TRIGGER audit_rows_stay BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_rows_do_not_change BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE INDEX audit_by_operation ON audit (operation) WHERE operation IS NOT NULL;

CREATE TABLE operations (
    id              TEXT PRIMARY KEY,
    daemon          TEXT NOT NULL,
    action          TEXT NOT NULL,
    subject         TEXT NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('pending', 'running', 'done', 'failed', 'cancelled')),
    actor           TEXT NOT NULL,
    owner           TEXT NOT NULL,          -- token id, else actor: whose idempotency keys these are
    person          TEXT,
    idempotency_key TEXT,
    digest          TEXT NOT NULL,          -- of the request, so that a key is not reused for another one
    request         TEXT NOT NULL,          -- JSON, what to resolve it with after a crash
    before          TEXT NOT NULL,          -- JSON, what the daemon had loaded when the intent was written
    result          TEXT,                   -- JSON
    problem         TEXT,                   -- JSON, RFC 9457
    created_ms      INTEGER NOT NULL,
    finished_ms     INTEGER
) STRICT;
CREATE UNIQUE INDEX operations_by_key ON operations (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX operations_unfinished ON operations (daemon) WHERE finished_ms IS NULL;
CREATE INDEX operations_by_time ON operations (created_ms);

-- What loads really took, to correct the daemon's estimates with.
CREATE TABLE load_memory (
    daemon          TEXT NOT NULL,
    instance_reference TEXT NOT NULL,
    model           TEXT NOT NULL,
    at_ms           INTEGER NOT NULL,
    estimated_bytes INTEGER NOT NULL,
    actual_bytes    INTEGER NOT NULL,
    by_gpu          TEXT NOT NULL,          -- JSON, bytes by GPU index
    pid             INTEGER NOT NULL,
    PRIMARY KEY (daemon, instance_reference)
) STRICT;
CREATE INDEX load_memory_by_model ON load_memory (daemon, model, at_ms);

CREATE TABLE desired (
    daemon      TEXT NOT NULL,
    instance_id TEXT NOT NULL,
    request     TEXT NOT NULL,              -- JSON, the load that brings it back
    suspended   INTEGER NOT NULL DEFAULT 0 CHECK (suspended IN (0, 1)),  -- 1 after a person ejected it
    PRIMARY KEY (daemon, instance_id)
) STRICT;
CREATE TABLE reaper (
    daemon      TEXT PRIMARY KEY,
    idle_s      REAL NOT NULL CHECK (idle_s > 0)
) STRICT;

-- Written to find out whether writing works, when nothing else was written for a while.
CREATE TABLE heartbeat (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    at_ms       INTEGER NOT NULL
) STRICT;
INSERT INTO heartbeat VALUES (1, 0);
"""

_COVERS_AND_CUTS: Final = """
ALTER TABLE audit ADD COLUMN covers TEXT;   -- JSON: digests of rows of other tables that changed with this row
-- Up to which row the beginning was moved into an archive. The triggers let only those rows go.
CREATE TABLE audit_cut (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    through     INTEGER NOT NULL
) STRICT;
INSERT INTO audit_cut VALUES (1, 0);
DROP TRIGGER audit_rows_stay;
CREATE TRIGGER audit_rows_stay BEFORE DELETE ON audit WHEN OLD.seq > (SELECT through FROM audit_cut)
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
"""

_TEXT_SCOPE: Final = """
CREATE TABLE tokens_with_text (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    scope       TEXT NOT NULL CHECK (scope IN ('read', 'operate', 'admin', 'text')),
    hash        BLOB NOT NULL,
    created_ms  INTEGER NOT NULL,
    expires_ms  INTEGER,
    revoked_ms  INTEGER
) STRICT;
INSERT INTO tokens_with_text SELECT * FROM tokens;
DROP TABLE tokens;
ALTER TABLE tokens_with_text RENAME TO tokens;
"""

_FLEET: Final = """
CREATE TABLE fleet (
    name        TEXT PRIMARY KEY,
    request     TEXT NOT NULL               -- JSON: load, goal, selection, and daemons where a person ejected it
) STRICT;
"""

_OPERATIONS_BY_DAEMON: Final = """
CREATE INDEX operations_by_daemon ON operations (daemon);   -- with the rowid that every index has, newest first
"""

MIGRATIONS: Final[tuple[str, ...]] = (
    _TOKENS_AUDIT_OPERATIONS,
    MCP_GATE,
    _COVERS_AND_CUTS,
    MCP_BOUND,
    _TEXT_SCOPE,
    _FLEET,
    _OPERATIONS_BY_DAEMON,
)
"""In order; the version of a database is how many of them it has seen."""


def statements(script: str) -> list[str]:
    """Cut a script where its statements end: executescript() would commit in between."""
    statements: list[str] = []
    current = ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    if current.strip():
        raise ValueError(f"a migration ends in the middle of a statement: {current.strip()[:80]}")
    return statements
