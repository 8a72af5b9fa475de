"""Targets: the actions API's front door, its tokens and its audit chain, below HTTP.

Knows no route. Storage is an SQLite database in memory with the real tables; coroutines that only wait for it are
stepped by hand.
"""

import asyncio
import re
import sqlite3
from collections.abc import Callable, Coroutine, MutableMapping
from functools import cache
from typing import Any, Final, TypeVar, cast

from actions.api.middleware import MAX_BODY_BYTES, RequestGuard
from actions.auth.tokens import TokenStore
from actions.domain.actor import Actor, Scope
from actions.store import covered
from actions.store.audit import Audit, AuditBroken
from actions.store.chain import row_hash
from actions.store.database import Storage
from actions.store.migrations import MIGRATIONS, statements
from exporter.shared.host_header import LOOPBACK_NAMES
from tests.fuzz.choices import Choices

T = TypeVar("T")

NOW_MS: Final = 1_795_351_872_748


def _step(waiting: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never really waits."""
    try:
        waiting.send(None)
    except StopIteration as end:
        return cast("T", end.value)
    waiting.close()
    raise AssertionError("it waits for something")


class _Memory:
    """Storage without a thread and without a disk. What is done between `begin` and `undo` leaves no trace."""

    def __init__(self) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.listeners: list[Any] = []
        self.db.row_factory = sqlite3.Row
        for script in MIGRATIONS:
            for statement in statements(script):
                self.db.execute(statement)
        covered.watch(self.db)
        # What stops accidents stops us too; the chain has to show what gets past it.
        self.db.execute("DROP TRIGGER audit_rows_stay")
        self.db.execute("DROP TRIGGER audit_rows_do_not_change")

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work`."""
        return work(self.db)

    scan = read

    async def recall(self, _key: object, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work`."""
        return work(self.db)


@cache
def _memory() -> _Memory:
    return _Memory()


def tokens(choices: Choices) -> None:
    """Nothing but the very text of a live token names an actor, and then the right one with the right scope."""
    memory = _memory()
    now = NOW_MS
    store = TokenStore(cast("Storage", memory), clock_ms=lambda: now)
    memory.db.execute("BEGIN")
    try:
        made = [
            store.add(
                memory.db,
                name=choices.pick(("me", "me", "you", "")),
                scope=choices.pick(tuple(Scope)),
                expires_ms=choices.pick((None, NOW_MS + 1, NOW_MS + 1000)),
            )
            for _ in range(1 + choices.upto(2))
        ]
        revoked = made[choices.upto(len(made) - 1)][0] if choices.flag() else None
        if revoked is not None:
            store.revoke(memory.db, revoked.id)
        now += choices.pick((0, 1, 5000))
        token, text = choices.pick(made)
        presented = _mutated(choices, text, choices.pick(made)[1])
        found = _step(store.check(presented))
        is_live = (token.expires_ms is None or now < token.expires_ms) and (
            revoked is None or revoked.id != token.id
        )
        if presented == text and is_live:
            assert found.actor == Actor(f"token:{token.name}", token.scope, token_id=token.id), found
        elif presented not in [one for _, one in made]:
            assert found.actor is None, f"{presented!r} was taken for {text!r}"
        elif presented == text:
            assert found.actor is None, f"{found} although it is revoked or expired"
        known = {"unknown", *(one.id for one, _ in made)}
        assert found.token_id in known, f"{found.token_id!r} would be held against nobody"
        secret = text[len("dp_12345678_") :]
        assert secret not in repr(found), "the secret shows"
    finally:
        memory.db.execute("ROLLBACK")


def _mutated(choices: Choices, text: str, other: str) -> str:
    manner = choices.upto(6)
    at = choices.upto(len(text))
    if manner == 0:
        return text
    if manner == 1:
        return text[:at] + choices.pick(("", "A", "_", "\0", "\n", " ", "\u00e9", "=")) + text[at + 1 :]
    if manner == 2:
        return text[:12] + other[12:]
    if manner == 3:
        return choices.pick((text + "\n", " " + text, text.upper(), text + text, text[:at], "Bearer " + text))
    if manner == 4:
        return "dp_" + choices.text(12) + "_" + choices.text(43)
    return choices.text(60)


_NAME: Final = r"(?:localhost|127\.0\.0\.1|\[::1\]|box\.lan)"
_HOST_PIECES: Final = (
    "localhost", "127.0.0.1", "[::1]", "::1", "box.lan", "BOX.LAN", "evil.org", "localhost.evil.org", ":", ":80",
    ":9811", ".", "@", "[", "]", " ", "\t", "/", "#", "%", "\u00e9", "\u00b2", "\u00a0", ",", "x", "127.1", "0", "\0",
)  # fmt: skip


def front_door(choices: Choices) -> None:
    """Only a host name of ours, with a port or without, gets in; a body announced as too large never does."""
    host = choices.pieces(_HOST_PIECES, 4).encode("latin-1", "replace")
    length = choices.pick(
        (None, "0", "65536", "65537", "9" * 30, "\u00b2", "-1", "1e9", " 7", "0" * 25 + "65537")
    )
    headers = [(b"host", host)] if not choices.rarely() else []
    if length is not None:
        headers.append((b"content-length", length.encode("latin-1")))
    passed: list[bool] = []
    sent: list[MutableMapping[str, Any]] = []

    async def app(*_: object) -> None:
        passed.append(True)

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    path = choices.pick(("/v1/x", "/mcp/files", "/"))
    door = RequestGuard(app, hosts=LOOPBACK_NAMES | {"box.lan"})
    asyncio.run(door({"type": "http", "method": "GET", "headers": headers, "path": path}, receive, send))
    shown = host.decode("latin-1")
    is_ours = bool(headers and headers[0][0] == b"host") and bool(
        re.fullmatch(rf"{_NAME}(?::[0-9]*)?", shown, re.IGNORECASE)
    )
    too_large = length is not None and length.isascii() and length.isdigit() and int(length) > MAX_BODY_BYTES
    if not is_ours:
        assert not passed, f"Host {shown!r} got in"
    elif not (too_large and not path.startswith("/mcp/")):
        assert passed, f"Host {shown!r} with {length} stayed out"
    elif length is not None and len(length) <= 20:
        assert not passed, f"{length} bytes got in"
    assert bool(passed) != bool(sent)


_COLUMNS: Final = ("seq", "at_ms", "kind", "operation", "actor", "token_id", "person", "address", "action", "subject",
                   "detail", "previous", "covers", "hash")  # fmt: skip


def chain(choices: Choices) -> None:
    """Any change to any row, a row taken out, put in or moved: found. An honest chain holds, whatever its rows say."""
    memory = _memory()
    audit = Audit(cast("Storage", memory), clock_ms=lambda: NOW_MS + choices.upto(3))
    memory.db.execute("BEGIN")
    try:
        rows = 2 + choices.upto(4)
        for _ in range(rows):
            actor = Actor(
                choices.text(8), Scope.READ, choices.pick((None, "id")), choices.pick((None, "", "p"))
            )
            audit.append(
                memory.db,
                choices.pick(("intent", "outcome", "denied", "event")),
                actor=actor,
                action=choices.text(8),
                subject=choices.text(8),
                operation=choices.pick((None, "", "o")),
                detail=choices.pick((None, {"x": choices.json(2, surrogates=True)})),
            )
        head = _step(audit.verify())
        assert head is not None
        assert head.seq == rows
        assert _step(audit.verify(expected=head)) == head
        what = _tamper(choices, memory.db, rows)
        if what is None:
            return
        try:
            _step(audit.verify(expected=head))
        except AuditBroken:
            return
        raise AssertionError(f"nobody noticed: {what}")
    finally:
        memory.db.execute("ROLLBACK")


def _tamper(choices: Choices, db: sqlite3.Connection, rows: int) -> str | None:
    """Do one thing to the audit; say what, None when it changed nothing."""
    seq = 1 + choices.upto(rows - 1)
    row = dict(db.execute("SELECT * FROM audit WHERE seq = ?", (seq,)).fetchone())
    manner = choices.upto(3)
    if manner == 0:
        db.execute("DELETE FROM audit WHERE seq = ?", (seq,))
        return f"row {seq} of {rows} was taken out"
    if manner == 1:
        moved = {**row, "seq": rows + 1, "hash": "0" * 64}
        marks = ", ".join("?" * len(_COLUMNS))
        values = [moved[name] for name in _COLUMNS]
        db.execute(f"INSERT INTO audit ({', '.join(_COLUMNS)}) VALUES ({marks})", values)  # noqa: S608 - fixed names
        db.execute("UPDATE audit SET seq = -seq WHERE seq >= ?", (seq,))
        db.execute(
            "UPDATE audit SET seq = CASE WHEN seq = ? THEN ? ELSE 1 - seq END WHERE seq < 0", (-rows - 1, seq)
        )
        return f"row {seq} of {rows} was put in once more"
    column = choices.pick(_COLUMNS)
    old = row[column]
    if column in ("seq", "at_ms"):
        new: Any = old + choices.pick((1, -1, 1000))
    elif column == "kind":
        new = choices.pick(("intent", "outcome", "denied", "event"))
    elif column in ("operation", "token_id", "person", "address", "covers"):
        new = choices.pick((None, "", "o", "id", "p", "x"))
    else:
        new = choices.pick((f"{old} ", f"{old}x", "", old[1:], old.upper(), "{}"))
    if new == old:
        return None
    changes = {column: new}
    if manner == 3 and column not in ("seq", "hash"):
        changes["hash"] = row_hash({**row, column: new})
    try:
        for name, value in changes.items():
            db.execute(f"UPDATE audit SET {name} = ? WHERE seq = ?", (value, seq))  # noqa: S608 - one of our columns
    except sqlite3.IntegrityError:
        return None
    return f"{column} of row {seq} of {rows} went from {old!r} to {new!r}"
