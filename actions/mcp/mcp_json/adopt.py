"""Points the entries of the daemon's mcp.json at the gate, and restores them. Definitions move into the registry.

Planning is pure. Carrying out writes the registry first, then a backup, then mcp.json, so that a crash in between loses
no server. Unknown keys stay, in their order.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
import re
import stat
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import quote, urlsplit

from actions.mcp.redaction import redact
from actions.mcp.server_registry import ServerRegistry, reach_of, write_private
from actions.mcp.upstream.spec import NAME, PATH_PREFIX
from exporter.shared import urls

MAX_BYTES: Final = 4 * 1024 * 1024

_HALF: Final = re.compile(r"[\ud800-\udfff]")

_MOVED: Final = frozenset({"command", "args", "env", "cwd", "envFile", "url", "headers", "type", "transport"})
"""Keys of the connection, which move to the registry."""


class NotAdoptable(Exception):
    """mcp.json cannot be changed; nothing was changed. The message has the reason and the fix."""


@dataclass(frozen=True, slots=True)
class McpJson:
    """The mcp.json on disk."""

    path: Path
    """Resolved: the target of a link is replaced."""
    text: str = field(repr=False)
    document: dict[str, Any] = field(repr=False)
    mode: int
    owner: tuple[int, int]

    @property
    def servers(self) -> dict[str, Any]:
        """Its servers by name."""
        found = self.document.get("mcpServers", {})
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class Plan:
    """A planned change."""

    file: McpJson
    text: str = field(repr=False)
    """The new content."""
    moved: Mapping[str, Mapping[str, Any]] = field(repr=False)
    """Entries that move to the registry (adopt) or back (undo)."""
    skipped: Mapping[str, str]
    """Servers that stay unchanged, and why."""
    repointed: tuple[str, ...] = ()
    """Servers adopted before whose entry has an outdated gate URL or token."""

    @property
    def names(self) -> list[str]:
        """Servers whose entry changes."""
        return sorted([*self.moved, *self.repointed])

    @property
    def changes(self) -> bool:
        """Whether the file would change."""
        return self.text != self.file.text

    def diff(self) -> str:
        """Return the change as a diff, with secrets redacted."""
        before = _dump(_shown(self.file.document), self.file.text).splitlines()
        after = _dump(_shown(json.loads(self.text)), self.text).splitlines()
        name = self.file.path.name
        return "\n".join(difflib.unified_diff(before, after, name, f"{name} (changed)", lineterm=""))

    @property
    def warning(self) -> str | None:
        """Return a warning if other users can read the token in mcp.json."""
        if self.file.mode & 0o077:
            return (
                f"{self.file.path} can be read by others on this host (mode {self.file.mode:o}): chmod 600 it"
            )
        return None


def read(path: Path) -> McpJson:
    """Read an mcp.json. Raises NotAdoptable."""
    text = ""
    try:
        real = path.resolve(strict=True)
        about = real.stat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > MAX_BYTES:
            raise NotAdoptable(f"{path} is not a file of at most {MAX_BYTES} bytes")
        text = real.read_bytes().decode("utf-8")
        document = json.loads(
            text, object_pairs_hook=_without_duplicates, parse_constant=_no_constant, parse_float=_finite
        )
    except json.JSONDecodeError as error:
        hint = "; JSON has no comments: remove them first" if "//" in text or "/*" in text else ""
        raise NotAdoptable(f"{path} is not JSON: line {error.lineno}: {error.msg}{hint}") from error
    except (OSError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise NotAdoptable(f"{path} cannot be read: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("mcpServers", {}), dict):
        raise NotAdoptable(f'{path} has no table "mcpServers"')
    return McpJson(real, text, document, stat.S_IMODE(about.st_mode), (about.st_uid, about.st_gid))


def is_gated(name: str, entry: Any, gate_url: str) -> bool:
    """Tell whether an entry of mcp.json points at the gate, under its own name."""
    return (
        isinstance(entry, Mapping)
        and entry.get("url") == gated_url(gate_url, name)
        and "command" not in entry
    )


def gated_url(gate_url: str, name: str) -> str:
    """Return the gate's URL of a server."""
    return f"{gate_url.rstrip('/')}{PATH_PREFIX}{quote(name, safe='')}"


def tokens_in(file: McpJson, adopted: Collection[str]) -> list[str]:
    """Return the tokens that earlier adoptions left in the file."""
    return [
        _token_of(entry) for name, entry in file.servers.items() if _is_adopted_entry(name, entry, adopted)
    ]


def plan_adoption(
    file: McpJson,
    *,
    gate_url: str,
    token: str,
    taken: frozenset[str] = frozenset(),
    adopted: Collection[str] = (),
    stale: frozenset[str] = frozenset(),
) -> Plan:
    """Plan an adoption. `taken` are names of servers in the policy file.

    Servers `adopted` before keep their definition; their entry gets the present gate URL, and `token` in place of a
    `stale` one.
    """
    servers: dict[str, Any] = {}
    moved: dict[str, Mapping[str, Any]] = {}
    skipped: dict[str, str] = {}
    for name, entry in file.servers.items():
        servers[name] = entry
        if _is_adopted_entry(name, entry, adopted):
            current = token if _token_of(entry) in stale else _token_of(entry)
            headers = {**entry["headers"], "Authorization": f"Bearer {current}"}
            servers[name] = {**entry, "url": gated_url(gate_url, name), "headers": headers}
        elif is_gated(name, entry, gate_url):
            continue
        elif not NAME.fullmatch(name):
            skipped[name] = "its name has characters that a path or label cannot carry; rename it"
        elif name in taken:
            skipped[name] = "the policy file has a server of this name; remove one of them"
        elif not isinstance(entry, Mapping) or reach_of(entry) is None:
            skipped[name] = "it has neither a command nor an http(s) url"
        else:
            moved[name] = entry
            servers[name] = {
                "url": gated_url(gate_url, name),
                "headers": {"Authorization": f"Bearer {token}"},
                **{key: value for key, value in entry.items() if key not in _MOVED},
            }
    changed = [name for name, entry in servers.items() if entry != file.servers[name]]
    text = _dump({**file.document, "mcpServers": servers}, file.text) if changed else file.text
    return Plan(file, text, moved, skipped, tuple(name for name in changed if name not in moved))


def plan_undo(file: McpJson, registry: ServerRegistry, *, gate_url: str) -> Plan:
    """Plan to restore every adopted server; later changes of the entries are kept."""
    servers: dict[str, Any] = {}
    moved: dict[str, Mapping[str, Any]] = {}
    adopted = registry.adopted
    for name, entry in file.servers.items():
        servers[name] = entry
        if name in adopted and (is_gated(name, entry, gate_url) or _is_adopted_entry(name, entry, adopted)):
            original = adopted[name]
            moved[name] = original
            # Keys added since stay; the keys of the connection are restored.
            kept = {key: value for key, value in entry.items() if key not in _MOVED}
            servers[name] = {key: kept.get(key, value) for key, value in original.items()} | {
                key: value for key, value in kept.items() if key not in original
            }
    document = {**file.document, "mcpServers": servers}
    text = file.text
    if moved:
        text = _as_it_was(registry.path.parent, document) or _dump(document, file.text)
    return Plan(file, text, moved, {})


def carry_out_adoption(plan: Plan, registry: ServerRegistry) -> Path:
    """Carry out; return the path of the backup. Raises OSError, and NotAdoptable if the file changed meanwhile."""
    registry.adopt(plan.moved)
    folder = registry.path.parent / "mcp-backups"
    mark = hashlib.sha256(plan.file.text.encode()).hexdigest()[:16]  # two within a second are two files
    backup = folder / f"mcp.json.{time.strftime('%Y%m%dT%H%M%S')}.{mark}"
    write_private(backup, plan.file.text)
    _replace(plan)
    return backup


def carry_out_undo(plan: Plan, registry: ServerRegistry) -> None:
    """Carry out. Raises OSError, and NotAdoptable if the file changed meanwhile."""
    _replace(plan)
    registry.release(set(plan.moved))


def _replace(plan: Plan) -> None:
    if plan.file.path.read_bytes().decode("utf-8", "replace") != plan.file.text:
        raise NotAdoptable(f"{plan.file.path} was changed meanwhile; try again")
    mode, owner = plan.file.mode, plan.file.owner
    write_private(plan.file.path, plan.text, mode=mode, owner=owner if os.geteuid() == 0 else None)


def _is_adopted_entry(name: str, entry: Any, adopted: Collection[str]) -> bool:
    """Tell whether an earlier adoption wrote the entry, at any gate URL."""
    if name not in adopted or not isinstance(entry, Mapping) or "command" in entry or not _token_of(entry):
        return False
    url = entry.get("url")
    return isinstance(url, str) and urls.is_http(url) and urlsplit(url).path == gated_url("", name)


def _token_of(entry: Mapping[str, Any]) -> str:
    """Return the gate's token in an entry's headers; "" if there is none."""
    headers = entry.get("headers")
    header = headers.get("Authorization") if isinstance(headers, Mapping) else None
    is_token = isinstance(header, str) and header.startswith("Bearer dp_")
    return str(header).removeprefix("Bearer ") if is_token else ""


def _as_it_was(state: Path, document: Any) -> str | None:
    """Return the backup with the same content, to restore the file byte by byte; None if there is none."""
    said = json.dumps(document)
    for path in sorted((state / "mcp-backups").glob("mcp.json.*"), reverse=True):
        try:
            text = path.read_bytes().decode("utf-8")
            if json.dumps(json.loads(text)) == said:
                return text
        except (OSError, ValueError, RecursionError):
            continue
    return None


def _dump(document: Any, like: str) -> str:
    """Return JSON with the indentation and final newline of the file."""
    indent = re.search(r"\n([ \t]+)\"", like)
    text = json.dumps(document, indent=indent[1] if indent else 2, ensure_ascii=False)
    if _HALF.search(text):  # a lone surrogate must be escaped
        text = json.dumps(document, indent=indent[1] if indent else 2)
    return text + ("\n" if like.endswith("\n") or not like else "")


def _shown(document: Mapping[str, Any]) -> dict[str, Any]:
    """Copy for display: values of env and headers are hidden, the rest is redacted."""
    shown: dict[str, Any] = redact(dict(document))
    for entry in shown.get("mcpServers", {}).values():
        for key in ("env", "headers"):
            if isinstance(entry, dict) and isinstance(entry.get(key), dict):
                entry[key] = dict.fromkeys(entry[key], "[redacted]")
    return shown


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"{number} is too large for a double")
    return value
