"""`daemonpulse actions token`: make, list and revoke the tokens of the actions API, in the database itself."""

from __future__ import annotations

import datetime as dt
import re
import time
from typing import TYPE_CHECKING, Any

import click

from actions.cli.database import state_flags, with_storage
from exporter.shared.durations import Duration
from exporter.shared.terminal import fail, say, say_json

if TYPE_CHECKING:
    from actions.auth.tokens import Token
    from actions.store.database import Storage


@click.group()
def token() -> None:
    """Make, list and revoke the tokens that may use the API."""


@token.command("new")
@state_flags
@click.option(
    "--scope", type=click.Choice(["read", "operate", "admin", "text"]), default="read", show_default=True
)
@click.option("--name", required=True, help="Whose it is; shown in the audit.")
@click.option("--expires", type=Duration(), help="When it ends, such as 90d. Default: never.")
@click.option("--json", "as_json", is_flag=True, help="Print the token with its id as JSON.")
def token_new(*, scope: str, name: str, expires: int | None, as_json: bool, **flags: str | None) -> None:
    """Make a token and print it: the only time that it can be seen.

    \b
    Example:  daemonpulse actions token new --name me --scope operate --expires 90d
    """  # noqa: D301 - click wants a real backspace
    from actions.auth.tokens import TokenStore
    from actions.domain.actor import CLI, Scope
    from actions.store.audit import Audit

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}", name):
        fail(f"--name={name[:80]!r}: use letters, digits, '.', '_', '@' and '-', at most 63 characters")
    expires_ms = round(time.time() * 1000) + expires * 1000 if expires is not None else None

    async def make(storage: Storage) -> tuple[Token, str]:
        tokens, audit = TokenStore(storage), Audit(storage)

        def work(db: Any) -> tuple[Token, str]:
            made, text = tokens.add(db, name=name, scope=Scope(scope), expires_ms=expires_ms)
            detail = {"name": name, "scope": scope, "expires_ms": expires_ms}
            audit.append(db, "event", actor=CLI, action="token-new", subject=made.id, detail=detail)
            return made, text

        return await storage.write(work)

    made, text = with_storage(flags, make, create=True)
    if as_json:
        say_json({**_plain(made), "token": text})
    else:
        click.echo(text)


@token.command("list")
@state_flags
@click.option("--json", "as_json", is_flag=True, help="Print the tokens as JSON.")
def token_list(*, as_json: bool, **flags: str | None) -> None:
    """List every token ever made, without its secret.

    \b
    Example:  daemonpulse actions token list
    """  # noqa: D301 - click wants a real backspace
    from actions.auth.tokens import TokenStore

    async def read(storage: Storage) -> tuple[Token, ...]:
        return await TokenStore(storage).all()

    tokens = with_storage(flags, read)
    if as_json:
        say_json({"tokens": [_plain(one) for one in tokens]})
        return
    if not tokens:
        say("no token yet; make one: daemonpulse actions token new --scope operate --name me", err=True)
    now_ms = time.time() * 1000
    for one in tokens:
        if one.revoked_ms is not None:
            state = f"revoked {_day(one.revoked_ms)}"
        elif one.expires_ms is not None:
            state = f"{'expires' if now_ms < one.expires_ms else 'expired'} {_day(one.expires_ms)}"
        else:
            state = "does not expire"
        say(f"{one.id}  {one.scope.value:<8} {one.name:<20} made {_day(one.created_ms)}, {state}")


@token.command("revoke")
@state_flags
@click.argument("id_or_name", metavar="ID|NAME")
@click.option("--json", "as_json", is_flag=True, help="Print the revoked tokens as JSON.")
def token_revoke(*, id_or_name: str, as_json: bool, **flags: str | None) -> None:
    """Revoke the token of this id, or all of this name. A running service refuses it at once.

    \b
    Example:  daemonpulse actions token revoke grafana
    """  # noqa: D301 - click wants a real backspace
    from actions.auth.tokens import NoSuchToken, TokenStore
    from actions.domain.actor import CLI
    from actions.store.audit import Audit

    async def revoke(storage: Storage) -> tuple[Token, ...]:
        tokens, audit = TokenStore(storage), Audit(storage)

        def work(db: Any) -> tuple[Token, ...]:
            revoked = tokens.revoke(db, id_or_name)
            for one in revoked:
                named = {"name": one.name}
                audit.append(db, "event", actor=CLI, action="token-revoke", subject=one.id, detail=named)
            return revoked

        return await storage.write(work)

    try:
        revoked = with_storage(flags, revoke)
    except NoSuchToken:
        fail(
            f"{id_or_name[:80]}: there is no live token of this id or name; see: daemonpulse actions token list"
        )
    if as_json:
        say_json({"tokens": [_plain(one) for one in revoked]})
        return
    for one in revoked:
        say(f"revoked {one.id} ({one.name})")


def _plain(one: Token) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "scope": one.scope.value,
        "created_ms": one.created_ms,
        "expires_ms": one.expires_ms,
        "revoked_ms": one.revoked_ms,
    }


def _day(at_ms: int) -> str:
    return dt.datetime.fromtimestamp(at_ms / 1000, tz=dt.UTC).strftime("%Y-%m-%d")
