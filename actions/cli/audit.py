"""`daemonpulse actions audit`: list rows over the API; verify and archive the database in the state folder."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from actions.cli.client import client_flags
from actions.cli.connection import Api
from actions.cli.database import state_flags, with_storage
from exporter.shared.durations import Duration
from exporter.shared.terminal import fail, local_time, say, say_json

if TYPE_CHECKING:
    from actions.store.audit_archive import Pruned, Report
    from actions.store.chain import Head
    from actions.store.database import Storage

_DETAIL_CHARS = 160


@click.group()
def audit() -> None:
    """List, verify and archive the audit log."""


@audit.command("list")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Rows at most.")
@click.option("--before", type=click.IntRange(min=1), help="Rows older than this sequence number.")
@client_flags
def audit_list(*, api: Api, as_json: bool, limit: int, before: int | None) -> None:
    """List the latest rows, newest first.

    \b
    Example:  daemonpulse actions audit list --limit 50
    """  # noqa: D301 - click wants a real backspace
    answer = api.ask("GET", "/v1/audit", {"limit": limit, "before": before})
    if as_json:
        say_json(answer)
        return
    if not answer["entries"]:
        say("no row yet")
    for row in answer["entries"]:
        at = local_time(row["at_ms"])
        who = row["person"] or row["actor"]
        told = " ".join(
            f"{key}={_short(value)}" for key, value in row["detail"].items() if value not in (None, "", {})
        )
        if len(told) > _DETAIL_CHARS:
            told = f"{told[:_DETAIL_CHARS]}…"
        say(
            f"{row['seq']:>6}  {at}  {row['kind']:<7} {row['action']:<12} {row['subject']}  by {who}  {told}".rstrip()
        )


@audit.command("verify")
@state_flags
@click.option("--head", help="A head noted earlier, SEQ:HASH or SEQ:FINGERPRINT (as the metrics have it).")
@click.option(
    "--archive",
    "archives",
    multiple=True,
    type=click.Path(path_type=Path),
    help="An archive kept elsewhere; may be given again. Those in the state folder are read anyway.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def audit_verify(*, head: str | None, archives: tuple[Path, ...], as_json: bool, **flags: str | None) -> None:
    """Recompute the whole chain and print its head.

    Exits 1 when a row of the audit, or a token, gate or operation that it covers, was changed, removed or inserted,
    and when rows are missing that neither an archive nor a head proves.

    \b
    Example:  daemonpulse actions audit verify --head 1234:9f2c...
    """  # noqa: D301 - click wants a real backspace
    from actions.store.audit_archive import FOLDER, verify_all
    from actions.store.chain import AuditBroken

    expected = _head(head) if head is not None else None

    async def verify(storage: Storage) -> Report:
        own = sorted((storage.path.parent / FOLDER).glob("*.jsonl*"))
        return await verify_all(storage, [*own, *archives], expected=expected)

    try:
        report = with_storage(flags, verify)
    except AuditBroken as error:
        fail(str(error), 1)
    except OSError as error:
        fail(f"--archive={error.filename}: cannot be read ({error.strerror})")
    proven = report.missing_through == 0 or report.is_vouched
    if as_json:
        say_json({**_plain(report), "is_proven": proven})
    else:
        _print(report)
    if not proven:
        fail(
            f"rows 1 to {report.missing_through} are missing and nothing proves that they were archived; give the "
            f"archive (--archive), or a head that was noted after row {report.cuts[-1].signed_by} (--head)",
            1,
        )
    sys.exit(0)


@audit.command("archive")
@state_flags
@click.option(
    "--older-than",
    type=Duration(),
    required=True,
    help="Minimum age of the rows that are moved, such as 90d.",
)
@click.option(
    "--to", "archive", type=click.Path(path_type=Path), required=True, help="New file; .gz compresses."
)
def audit_archive(*, older_than: int, archive: Path, **flags: str | None) -> None:
    """Move old rows into a file.

    A row of the remaining chain signs them off. The service also does it by size and age.

    \b
    Example:  daemonpulse actions audit archive --older-than 90d --to audit-2026.jsonl.gz
    """  # noqa: D301 - click wants a real backspace
    from actions.domain.actor import CLI
    from actions.store.audit import Audit
    from actions.store.audit_archive import prune
    from actions.store.chain import AuditBroken

    now_ms = round(time.time() * 1000)

    async def cut(storage: Storage) -> Pruned | None:
        return await prune(
            storage,
            Audit(storage),
            before_ms=now_ms - older_than * 1000,
            now_ms=now_ms,
            archive=archive,
            actor=CLI,
        )

    try:
        found = with_storage(flags, cut)
    except AuditBroken as error:
        fail(f"{error}; nothing was moved", 1)
    except OSError as error:
        fail(f"--to={archive}: cannot be written ({error.strerror}); nothing was moved")
    if found is None:
        say("nothing is old enough")
    else:
        say(f"{found.rows} rows moved to {archive}; the audit begins after {found.through.seq}")


def _short(value: Any) -> Any:
    """Write what is set in an object as JSON."""
    if not isinstance(value, dict):
        return value
    return json.dumps({key: one for key, one in value.items() if one not in (None, "", [], {})})


def _head(text: str) -> Head:
    from actions.store.chain import Head

    match = re.fullmatch(r"(\d{1,18}):(?:([0-9a-f]{64})|(\d{1,16}))", text)
    if match is None:
        fail(f"--head={text[:100]}: write it as `audit verify` prints it, SEQ:HASH, or SEQ:FINGERPRINT")
    return Head(int(match[1]), match[2], int(match[3]) if match[3] else None)


def _plain(report: Report) -> dict[str, Any]:
    plain = dataclasses.asdict(report)
    for one in plain["archives"]:
        one["file"] = str(one["file"])
    return plain


def _print(report: Report) -> None:
    for cut in reversed(report.cuts):
        day = local_time(cut.at_ms)
        say(
            f"row {cut.signed_by} ({day}, {cut.actor}): {cut.rows} rows up to {cut.through.seq} moved to {cut.archive}"
        )
    for one in report.archives:
        say(f"{one.file}: unbroken, rows {one.after.seq + 1} to {one.through.seq}")
    if report.uncompared:
        say(
            f"{report.uncompared} rows of tokens, gates or operations were changed since row {report.missing_through}; "
            "whether another program had changed them before, only the missing archive tells"
        )
    if report.head is None:
        say("the audit is empty")
    else:
        say(f"unbroken up to row {report.head.seq}; head {report.head.seq}:{report.head.hash}")
