"""Reads the policy file of the MCP gate: servers, rules, defaults. Unknown keys are errors.

`${NAME}` in a server's `env` and `headers` is replaced by the environment variable when the file is read.
"""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from msgspec import UNSET

from actions.mcp.identifiers import glob_fault
from actions.mcp.policy.constraints import Constraints
from actions.mcp.policy.file_format import Document, PolicyError, RuleTable, ServerTable, read_table
from actions.mcp.policy.kept import from_kept, to_keep
from actions.mcp.policy.rules import KINDS, Kind, Policy, Rule
from actions.mcp.upstream.spec import NAME, Http, Limits, ServerSpec, Stdio
from exporter.shared import bounded_file, urls

__all__ = [
    "FILE_NAME",
    "McpConfig",
    "PolicyError",
    "PolicyFile",
    "PolicyMissing",
    "load",
    "parse",
    "read",
    "restore",
]

FILE_NAME: Final = "mcp.toml"

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class McpConfig:
    """The content of the policy file."""

    policy: Policy = field(default_factory=Policy)
    servers: Mapping[str, ServerSpec] = field(default_factory=dict)
    limits: Mapping[str, tuple[Limits, tuple[str, ...] | None]] = field(default_factory=dict)
    """Limits and tokens of servers; adopted servers have these only."""
    capture_arguments: bool = False
    """Whether the audit keeps redacted arguments instead of their digest only."""
    mcp_json: Path | None = None
    """Path of mcp.json; None for the daemon's default."""


class PolicyMissing(PolicyError):
    """The policy file is missing or empty."""


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A policy file that was read."""

    config: McpConfig
    kept: str = field(default="", repr=False)
    """The part that is kept for a restart, without the servers' secrets; "" if there never was a file."""
    sha256: str = ""
    """SHA-256 of the file; "" if there never was one."""
    left_out: tuple[str, ...] = ()
    """Servers that cannot be reached, because the kept policy has no secrets."""


def load(path: Path, environ: Mapping[str, str] = os.environ) -> PolicyFile:
    """Read the file. Raises PolicyError, PolicyMissing."""
    try:
        document = bounded_file.read_text(path, only_files=True)
    except FileNotFoundError as error:
        raise PolicyMissing(f"{path} cannot be read: {error.strerror}") from error
    except (OSError, ValueError) as error:
        raise PolicyError(f"{path} cannot be read: {bounded_file.why(error)}") from error
    if not document.strip():  # as a full disk leaves it; that must not allow every prompt
        raise PolicyMissing(f"{path} is empty; for a policy without rules write a comment")
    return read(document, str(path), environ)


def read(document: str, name: str, environ: Mapping[str, str] = os.environ) -> PolicyFile:
    """Read a document. Raises PolicyError."""
    try:
        tables = tomllib.loads(document)
        config = parse(tables, environ)
        kept = to_keep(tables)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{name}: not TOML: {error}") from error
    except PolicyError as error:
        raise PolicyError(f"{name}: {error}") from None
    return PolicyFile(config, kept, hashlib.sha256(document.encode()).hexdigest())


def restore(kept: str, sha256: str, environ: Mapping[str, str] = os.environ) -> PolicyFile:
    """Read a kept policy; `sha256` is that of its file. Raises PolicyError."""
    try:
        tables, left_out = from_kept(kept)
        return PolicyFile(parse(tables, environ), kept, sha256, tuple(left_out))
    except PolicyError as error:
        raise PolicyError(f"the policy that was last in force: {error}") from None


def parse(document: Mapping[str, Any], environ: Mapping[str, str]) -> McpConfig:
    """Read a parsed document. Raises PolicyError."""
    top = read_table(document, Document, "")
    servers: dict[str, ServerSpec] = {}
    limits: dict[str, tuple[Limits, tuple[str, ...] | None]] = {}
    for name, given in top.servers.items():
        where = f"servers.{name}"
        if not NAME.fullmatch(name):
            raise PolicyError(f"{where}: a name is up to 64 letters, digits, dots, dashes, underscores")
        table = read_table(given, ServerTable, where)
        limits[name] = table.limits, table.tokens if table.tokens is not UNSET else None
        reach = _reach(table, where, environ)
        if reach is not None:
            servers[name] = ServerSpec(name, reach, *limits[name])
    return McpConfig(
        policy=Policy(
            tuple(_rule(rule, f"rules[{number}]") for number, rule in enumerate(top.rules, 1)),
            {"tool": top.default, "prompt": top.default_prompt, "resource": top.default_resource},
        ),
        servers=servers,
        limits=limits,
        capture_arguments=top.capture_arguments,
        mcp_json=_expanded(top.mcp_json, "mcp_json") if top.mcp_json is not UNSET else None,
    )


def _rule(given: Any, where: str) -> Rule:
    table = read_table(given, RuleTable, where)
    kinds = [kind for kind in KINDS if getattr(table, kind) is not UNSET]
    if len(kinds) > 1:
        raise PolicyError(f"{where}: has {' and '.join(kinds)}; write one of them")
    kind: Kind = kinds[0] if kinds else "tool"
    target: str = getattr(table, kind) if kinds else "*"
    if kind == "resource" and (fault := glob_fault(target)) is not None:
        raise PolicyError(f"{where}.resource: {target}: cannot match a normalised URI: {fault}")
    return Rule(
        name=table.name if table.name is not UNSET else where,
        decision=table.decision,
        server=table.server,
        kind=kind,
        target=target,
        token=table.token,
        constraints=_constraints(table, where),
    )


def _constraints(table: RuleTable, where: str) -> Constraints:
    schema = table.schema if table.schema is not UNSET else None
    if schema is not None:
        from actions.mcp.policy.json_schema import schema_fault  # noqa: PLC0415 - see there

        if (fault := schema_fault(schema)) is not None:
            raise PolicyError(f"{where}.schema: {fault}")
    paths, hosts = table.paths, table.hosts
    if bool(paths.arguments) != bool(paths.roots) or bool(hosts.arguments) != bool(hosts.allowed):
        raise PolicyError(f"{where}: paths needs arguments and roots, hosts needs arguments and allowed")
    roots = tuple(str(_expanded(root, f"{where}.paths.roots")) for root in paths.roots)
    for root in roots:
        if not root.startswith("/"):
            raise PolicyError(f"{where}.paths.roots: {root}: write absolute paths")
    return Constraints(
        schema=schema,
        path_arguments=paths.arguments,
        path_roots=roots,
        host_arguments=hosts.arguments,
        hosts=hosts.allowed,
        other_arguments=table.other_arguments,
    )


def _reach(table: ServerTable, where: str, environ: Mapping[str, str]) -> Stdio | Http | None:
    if table.command is not UNSET and table.url is not UNSET:
        raise PolicyError(f"{where}: has command and url; write one of them")
    if table.url is not UNSET:
        if not urls.is_http(table.url):
            raise PolicyError(f"{where}.url: write http://host:port/path")
        return Http(table.url, _resolved(table.headers, f"{where}.headers", environ))
    if table.command is not UNSET:
        env = _resolved(table.env, f"{where}.env", environ)
        return Stdio(table.command, table.args, env, table.cwd if table.cwd is not UNSET else None)
    return None


def _resolved(values: Mapping[str, str], where: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Replace `${NAME}` by the environment variable."""
    for name, value in values.items():
        for variable in _VARIABLE.findall(value):
            if variable not in environ:
                raise PolicyError(f"{where}.{name}: the environment has no {variable}")
    return {name: _VARIABLE.sub(lambda match: environ[match[1]], value) for name, value in values.items()}


def _expanded(path: str, where: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise PolicyError(f"{where}: {path}: the home directory is unknown; write an absolute path") from None
