"""Reads the one TOML file of the MCP gate: servers, rules, defaults. Strict: a misspelt key is refused, not ignored.

Knows no secret: a server's `env` and `headers` may name environment variables as `${NAME}`, resolved when it is read.
"""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from actions.mcp.identifiers import glob_fault
from actions.mcp.policy.constraints import Constraints
from actions.mcp.policy.json_schema import schema_fault
from actions.mcp.policy.rules import KINDS, Kind, Policy, Rule, Verdict
from actions.mcp.upstream.spec import NAME, Http, Limits, ServerSpec, Stdio
from exporter.shared import urls

FILE_NAME: Final = "mcp.toml"

_TOP: Final = {
    "default",
    "default_prompt",
    "default_resource",
    "capture_arguments",
    "mcp_json",
    "servers",
    "rules",
}
_LIMITS: Final = {one.name for one in fields(Limits)}
_SERVER: Final = {"command", "args", "env", "cwd", "url", "headers", "tokens"} | _LIMITS
_RULE: Final = {
    "name",
    "server",
    "tool",
    "prompt",
    "resource",
    "token",
    "decision",
    "schema",
    "paths",
    "hosts",
    "other_arguments",
}
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class PolicyError(Exception):
    """The file is wrong. The message is one line: file, key, and what to write instead."""


@dataclass(frozen=True, slots=True)
class GateConfig:
    """What the file says."""

    policy: Policy = field(default_factory=Policy)
    servers: Mapping[str, ServerSpec] = field(default_factory=dict)
    limits: Mapping[str, tuple[Limits, tuple[str, ...] | None]] = field(default_factory=dict)
    """For servers that are not described here because mcp.json did: their limits and tokens."""
    capture_arguments: bool = False
    """Whether the audit keeps arguments, redacted. Off: a digest only."""
    mcp_json: Path | None = None
    """Which mcp.json to watch and adopt; None for the daemon's usual one."""


class PolicyMissing(PolicyError):
    """There is no file."""


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A file that was read, whole."""

    config: GateConfig
    document: str = ""
    sha256: str = ""
    """Of the document; "" where there never was one."""


def load(path: Path, environ: Mapping[str, str] = os.environ) -> PolicyFile:
    """Read the file. Raises PolicyError, PolicyMissing."""
    try:
        document = path.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise PolicyMissing(f"{path} cannot be read: {error.strerror}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path} cannot be read: {error}") from error
    return read(document, str(path), environ)


def read(document: str, name: str, environ: Mapping[str, str] = os.environ) -> PolicyFile:
    """Read a document. Raises PolicyError."""
    try:
        config = parse(tomllib.loads(document), environ)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{name}: not TOML: {error}") from error
    except PolicyError as error:
        raise PolicyError(f"{name}: {error}") from None
    return PolicyFile(config, document, hashlib.sha256(document.encode()).hexdigest())


def parse(document: Mapping[str, Any], environ: Mapping[str, str]) -> GateConfig:
    """Read a parsed document. Raises PolicyError."""
    _known(document, _TOP, "")
    servers: dict[str, ServerSpec] = {}
    limits: dict[str, tuple[Limits, tuple[str, ...] | None]] = {}
    for name, table in _table(document, "servers", "").items():
        where = f"servers.{name}"
        if not NAME.fullmatch(name):
            raise PolicyError(f"{where}: a name is up to 64 letters, digits, dots, dashes, underscores")
        if not isinstance(table, Mapping):
            raise PolicyError(f"{where}: write it as a table")
        _known(table, _SERVER, where)
        tokens = _texts(table, "tokens", where) if "tokens" in table else None
        limits[name] = _limits(table, where), tokens
        reach = _reach(table, where, environ)
        if reach is not None:
            servers[name] = ServerSpec(name, reach, limits[name][0], tokens)
    rules = document.get("rules", [])
    if not isinstance(rules, list):
        raise PolicyError("rules: write each as [[rules]]")
    mcp_json = _text(document, "mcp_json", "")
    return GateConfig(
        policy=Policy(
            tuple(_rule(rule, number) for number, rule in enumerate(rules, 1)),
            {
                "tool": _verdict(document, "default", "", "ask"),
                "prompt": _verdict(document, "default_prompt", "", "allow"),
                "resource": _verdict(document, "default_resource", "", "allow"),
            },
        ),
        servers=servers,
        limits=limits,
        capture_arguments=_of(bool, document, "capture_arguments", "", "true or false") is True,
        mcp_json=_expanded(mcp_json, "mcp_json") if mcp_json else None,
    )


def _rule(table: Any, number: int) -> Rule:
    where = f"rules[{number}]"
    if not isinstance(table, Mapping):
        raise PolicyError(f"{where}: write it as [[rules]]")
    _known(table, _RULE, where)
    kinds = [kind for kind in KINDS if kind in table]
    if len(kinds) > 1:
        raise PolicyError(f"{where}: has {' and '.join(kinds)}; a rule speaks of one of them")
    if "decision" not in table:
        raise PolicyError(f"{where}.decision: write allow, deny or ask")
    kind: Kind = kinds[0] if kinds else "tool"
    target = _text(table, kind, where) or "*"
    if kind == "resource" and (fault := glob_fault(target)) is not None:
        raise PolicyError(
            f"{where}.resource: {target}: never matches, for URIs are normalised first: {fault}"
        )
    return Rule(
        name=_text(table, "name", where) or where,
        decision=_verdict(table, "decision", where, ""),
        server=_text(table, "server", where) or "*",
        kind=kind,
        target=target,
        token=_text(table, "token", where) or "*",
        constraints=_constraints(table, where),
    )


def _constraints(table: Mapping[str, Any], where: str) -> Constraints:
    schema = _table(table, "schema", where) if "schema" in table else None
    if schema is not None and (fault := schema_fault(schema)) is not None:
        raise PolicyError(f"{where}.schema: {fault}")
    paths, hosts = _table(table, "paths", where), _table(table, "hosts", where)
    _known(paths, {"arguments", "roots"}, f"{where}.paths")
    _known(hosts, {"arguments", "allowed"}, f"{where}.hosts")
    given = _texts(paths, "roots", f"{where}.paths")
    roots = tuple(str(_expanded(root, f"{where}.paths.roots")) for root in given)
    for root in roots:
        if not root.startswith("/"):
            raise PolicyError(f"{where}.paths.roots: {root}: write absolute paths")
    constraints = Constraints(
        schema=schema,
        path_arguments=_texts(paths, "arguments", f"{where}.paths"),
        path_roots=roots,
        host_arguments=_texts(hosts, "arguments", f"{where}.hosts"),
        hosts=_texts(hosts, "allowed", f"{where}.hosts"),
        other_arguments=_texts(table, "other_arguments", where),
    )
    if bool(constraints.path_arguments) != bool(roots) or bool(constraints.host_arguments) != bool(
        constraints.hosts
    ):
        raise PolicyError(
            f"{where}: paths needs arguments and roots, hosts needs arguments and allowed; half of it guards nothing"
        )
    return constraints


def _reach(table: Mapping[str, Any], where: str, environ: Mapping[str, str]) -> Stdio | Http | None:
    if "command" in table and "url" in table:
        raise PolicyError(f"{where}: has a command and a url; a server is reached one way")
    if "url" in table:
        url = _text(table, "url", where)
        if not urls.is_http(url):
            raise PolicyError(f"{where}.url: write http://host:port/path")
        return Http(url, _variables(table, "headers", where, environ))
    if "command" in table:
        return Stdio(
            _text(table, "command", where),
            _texts(table, "args", where),
            _variables(table, "env", where, environ),
            _text(table, "cwd", where) or None,
        )
    return None


def _limits(table: Mapping[str, Any], where: str) -> Limits:
    given: dict[str, Any] = {}
    for key in _LIMITS & table.keys():
        value = table[key]
        kind = type(getattr(Limits(), key))
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e12:  # noqa: PLR2004
            raise PolicyError(f"{where}.{key}: write a number above 0")
        given[key] = kind(value)
        if kind is int and given[key] != value:
            raise PolicyError(f"{where}.{key}: write a whole number above 0")
    return Limits(**given)


def _variables(table: Mapping[str, Any], key: str, where: str, environ: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name, value in _table(table, key, where).items():
        if not isinstance(value, str):
            raise PolicyError(f"{where}.{key}.{name}: write text")
        for variable in _VARIABLE.findall(value):
            if variable not in environ:
                raise PolicyError(f"{where}.{key}.{name}: the environment has no {variable}")
        found[name] = _VARIABLE.sub(lambda match: environ[match[1]], value)
    return found


def _expanded(path: str, where: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise PolicyError(f"{where}: {path}: there is no such user's home; write an absolute path") from None


def _known(table: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise PolicyError(f"{where}.{key}: no such key; known: {', '.join(sorted(known))}".lstrip("."))


def _of(kind: type, table: Mapping[str, Any], key: str, where: str, fix: str) -> Any:
    value = table.get(key)
    if value is not None and not isinstance(value, kind):
        raise PolicyError(f"{where}.{key}: write {fix}".lstrip("."))
    return value


def _table(table: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value: Mapping[str, Any] = _of(Mapping, table, key, where, "a table") or {}
    return value


def _text(table: Mapping[str, Any], key: str, where: str) -> str:
    return str(_of(str, table, key, where, "text") or "")


def _texts(table: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = _of(list, table, key, where, "a list of texts") or []
    if not all(isinstance(one, str) and one for one in value):
        raise PolicyError(f"{where}.{key}: write a list of texts".lstrip("."))
    return tuple(value)


def _verdict(table: Mapping[str, Any], key: str, where: str, default: str) -> Verdict:
    value = _text(table, key, where) or default
    if value not in set(Verdict):
        raise PolicyError(f"{where}.{key}: {value}: write allow, deny or ask".lstrip("."))
    return Verdict(value)
