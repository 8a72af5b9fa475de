"""`daemonpulse actions`: serve the actions API, keep its tokens and audit, or use it from a terminal.

Knows words and exit codes: 0 fine, 1 it did not work out, 2 it was asked wrongly. What the API does is in `actions`.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from actions.cli.client import CLIENT_COMMANDS
from actions.cli.mcp import mcp
from exporter.shared.durations import Duration
from exporter.shared.settings_flags import settings_flags
from exporter.shared.terminal import fail

if TYPE_CHECKING:
    from actions.store.database import Storage


@click.group()
def actions() -> None:
    """Load and eject models through an API that can be trusted.

    \b
    Serve it:   daemonpulse actions token new --scope operate --name me
                daemonpulse actions serve
    Use it:     export DAEMONPULSE_ACTIONS_TOKEN=dp_...
                daemonpulse actions load qwen/qwen3-8b --ttl 1h
    """  # noqa: D301 - click wants a real backspace before lines that are to stay as they are


def _state_flag(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags that say where the database is."""
    command = click.option("--state", help="Folder of the database.  [env: DAEMONPULSE_ACTIONS_STATE]")(
        command
    )
    return click.option("--config", help="TOML file.  [env: DAEMONPULSE_CONFIG]")(command)


def _serve_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    from actions.settings import SETTINGS, SHARED
    from exporter.settings import SETTINGS as EXPORTER_SETTINGS

    shared = [one for one in EXPORTER_SETTINGS if one.key in SHARED]
    return settings_flags([*SETTINGS, *shared])(command)


@actions.command()
@_serve_flags
def serve(**flags: str | None) -> None:
    """Serve the actions API.

    Unconfigured, it controls http://127.0.0.1:1234 and serves http://127.0.0.1:9811 (/docs says how to use it).
    Until a token is made, this machine may look and nobody may touch.
    """
    from actions import settings
    from exporter.shared import logs
    from exporter.shared.settings_table import SettingsError

    try:
        from actions import app
    except ImportError as error:
        fail(f"{error.name} is not installed; install the actions too: pip install 'daemonpulse[actions]'")
    try:
        chosen = settings.load(flags)
        logs.configure(level=chosen.log_level, format_=chosen.log_format)
        app.run(chosen)
    except SettingsError as error:
        fail(str(error))


@actions.group()
def token() -> None:
    """Make, list and revoke the tokens that may use the API."""


@token.command("new")
@_state_flag
@click.option("--scope", type=click.Choice(["read", "operate", "admin"]), default="read", show_default=True)
@click.option("--name", required=True, help="Whose it is; shown in the audit.")
@click.option("--expires", type=Duration(), help="When it ends, such as 90d. Default: never.")
def token_new(*, scope: str, name: str, expires: int | None, **flags: str | None) -> None:
    """Make a token and print it: the only time that it can be seen."""
    from actions.auth.tokens import TokenStore
    from actions.domain.actor import Actor, Scope
    from actions.store.audit import Audit

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}", name):
        fail(f"--name={name[:80]!r}: use letters, digits, '.', '_', '@' and '-', at most 63 characters")
    expires_ms = round(time.time() * 1000) + expires * 1000 if expires is not None else None

    async def make(storage: Storage) -> str:
        tokens, audit = TokenStore(storage), Audit(storage)

        def work(db: Any) -> str:
            made, text = tokens.add(db, name=name, scope=Scope(scope), expires_ms=expires_ms)
            detail = {"name": name, "scope": scope, "expires_ms": expires_ms}
            audit.append(
                db,
                "event",
                actor=Actor("cli", Scope.ADMIN),
                action="token-new",
                subject=made.id,
                detail=detail,
            )
            return text

        return await storage.write(work)

    click.echo(_with_storage(flags, make))


@token.command("list")
@_state_flag
def token_list(**flags: str | None) -> None:
    """List every token ever made, without its secret."""
    from actions.auth.tokens import Token, TokenStore

    async def read(storage: Storage) -> tuple[Token, ...]:
        return await TokenStore(storage).all()

    now_ms = time.time() * 1000
    tokens = _with_storage(flags, read)
    if not tokens:
        click.echo(
            "no token yet; make one: daemonpulse actions token new --scope operate --name me", err=True
        )
    for one in tokens:
        if one.revoked_ms is not None:
            state = f"revoked {_day(one.revoked_ms)}"
        elif one.expires_ms is not None:
            state = f"{'expires' if now_ms < one.expires_ms else 'expired'} {_day(one.expires_ms)}"
        else:
            state = "does not expire"
        click.echo(f"{one.id}  {one.scope.value:<8} {one.name:<20} made {_day(one.created_ms)}, {state}")


@token.command("revoke")
@_state_flag
@click.argument("id_or_name")
def token_revoke(*, id_or_name: str, **flags: str | None) -> None:
    """Revoke the token of this id, or all of this name. Works at once, also on a service that runs."""
    from actions.auth.tokens import NoSuchToken, Token, TokenStore
    from actions.domain.actor import Actor, Scope
    from actions.store.audit import Audit

    async def revoke(storage: Storage) -> tuple[Token, ...]:
        tokens, audit = TokenStore(storage), Audit(storage)

        def work(db: Any) -> tuple[Token, ...]:
            revoked = tokens.revoke(db, id_or_name)
            for one in revoked:
                audit.append(
                    db,
                    "event",
                    actor=Actor("cli", Scope.ADMIN),
                    action="token-revoke",
                    subject=one.id,
                    detail={"name": one.name},
                )
            return revoked

        return await storage.write(work)

    try:
        for one in _with_storage(flags, revoke):
            click.echo(f"revoked {one.id} ({one.name})")
    except NoSuchToken:
        fail(
            f"{id_or_name[:80]}: there is no live token of this id or name; see: daemonpulse actions token list"
        )


@actions.group()
def audit() -> None:
    """Look after the audit."""


@audit.command("verify")
@_state_flag
@click.option("--head", help="A head noted earlier, SEQ:HASH: proves that nothing was cut off the end.")
@click.option("--archive", type=click.Path(path_type=Path), help="A file that `prune` wrote, to verify, too.")
def audit_verify(*, head: str | None, archive: Path | None, **flags: str | None) -> None:
    """Recompute the whole chain and print its head. Exits 1 when a row was changed, removed or put in."""
    from actions.store.audit import Audit, AuditBroken, Head
    from actions.store.audit_archive import verify_archive

    expected: Head | None = None
    if head is not None:
        match = re.fullmatch(r"(\d{1,18}):([0-9a-f]{64})", head)
        if match is None:
            fail(f"--head={head[:100]}: write it as audit verify prints it, SEQ:HASH")
        expected = Head(int(match[1]), match[2])

    async def verify(storage: Storage) -> Head | None:
        found = await Audit(storage).verify(expected=expected)
        if archive is not None:
            cut = await verify_archive(storage, archive)
            click.echo(f"{archive}: unbroken up to its last row {cut.seq}:{cut.hash}, which was signed off")
        return found

    try:
        found = _with_storage(flags, verify)
    except AuditBroken as error:
        fail(str(error), 1)
    except OSError as error:
        fail(f"--archive={archive}: cannot be read ({error.strerror})")
    if found is None:
        click.echo("the audit is empty")
    else:
        click.echo(f"unbroken up to row {found.seq}; head {found.seq}:{found.hash}")


@audit.command("prune")
@_state_flag
@click.option("--older-than", type=Duration(), required=True, help="What may go, such as 90d.")
@click.option("--to", "archive", type=click.Path(path_type=Path), required=True, help="New file for it.")
def audit_prune(*, older_than: int, archive: Path, **flags: str | None) -> None:
    """Move old rows into a file, signed off in the chain that stays.

    Both can still be verified: `audit verify --archive FILE`.
    """
    from actions.domain.actor import Actor, Scope
    from actions.store.audit import Audit, AuditBroken
    from actions.store.audit_archive import Pruned, prune

    async def cut(storage: Storage) -> Pruned | None:
        return await prune(
            storage,
            Audit(storage),
            before_ms=round(time.time() * 1000) - older_than * 1000,
            archive=archive,
            actor=Actor("cli", Scope.ADMIN),
        )

    try:
        found = _with_storage(flags, cut)
    except AuditBroken as error:
        fail(f"{error}; nothing was cut off", 1)
    except OSError as error:
        fail(f"--to={archive}: cannot be written ({error.strerror}); nothing was cut off")
    if found is None:
        click.echo("nothing is old enough")
    else:
        click.echo(f"{found.rows} rows moved to {archive}; the audit begins after {found.through.seq}")


for _command in CLIENT_COMMANDS:
    actions.add_command(_command)
actions.add_command(mcp)


def _with_storage(flags: dict[str, str | None], work: Callable[[Storage], Any]) -> Any:
    """Open the database, do one thing and close it; what is wrong with it is one line and exit code 2."""
    from actions.settings import state_folder
    from actions.store.database import Storage, StorageFailed
    from exporter.shared.settings_table import SettingsError

    async def run(folder: Path) -> Any:
        storage = await Storage.open(folder)
        try:
            return await work(storage)
        finally:
            await storage.close()

    try:
        return asyncio.run(run(state_folder(flags)))
    except (SettingsError, StorageFailed) as error:
        fail(str(error))


def _day(at_ms: int) -> str:
    return dt.datetime.fromtimestamp(at_ms / 1000, tz=dt.UTC).strftime("%Y-%m-%d")
