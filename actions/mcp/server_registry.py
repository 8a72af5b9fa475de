"""The configured tool servers: those of the policy file, and those adopted from mcp.json with their secrets.

Does not depend on mcp.json. Adopted servers are kept in one file with mode 0600, written atomically, in the form that
mcp.json had, so that `undo` can restore it.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from actions.mcp.policy.file import McpConfig
from actions.mcp.upstream.spec import Http, Limits, ServerSpec, Stdio
from exporter.shared import bounded_file, urls

FILE_NAME: Final = "mcp-servers.json"


class RegistryBroken(Exception):
    """The file of adopted servers cannot be read."""


class ServerRegistry:
    """The servers by name. The policy file wins over an adopted server of the same name."""

    def __init__(self, folder: Path, config: McpConfig) -> None:
        """Read the adopted servers. Raises RegistryBroken."""
        self.path = folder / FILE_NAME
        self._config = config
        self._adopted: dict[str, Mapping[str, Any]] = _read(self.path)

    @property
    def servers(self) -> dict[str, ServerSpec]:
        """Every server by name."""
        found = {}
        for name, entry in self._adopted.items():
            reach = reach_of(entry)
            if reach is not None:
                limits, tokens = self._config.limits.get(name, (Limits(), None))
                found[name] = ServerSpec(name, reach, limits, tokens, adopted=True)
        return {**found, **self._config.servers}

    def take_config(self, config: McpConfig) -> None:
        """Use the servers and limits of a changed policy file."""
        self._config = config

    @property
    def adopted(self) -> dict[str, Mapping[str, Any]]:
        """The mcp.json entry of each adopted server, secrets included."""
        return dict(self._adopted)

    def adopt(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        """Add servers; they are on disk when this returns. Raises OSError."""
        changed = {**self._adopted, **{name: dict(entry) for name, entry in entries.items()}}
        write_private(self.path, json.dumps({"mcpServers": changed}, indent=2) + "\n")
        self._adopted = changed

    def release(self, names: set[str]) -> None:
        """Remove servers. Raises OSError."""
        changed = {name: entry for name, entry in self._adopted.items() if name not in names}
        write_private(self.path, json.dumps({"mcpServers": changed}, indent=2) + "\n")
        self._adopted = changed


def reach_of(entry: Mapping[str, Any]) -> Stdio | Http | None:
    """Read one entry in mcp.json's form; None if it has no valid command and no valid URL.

    Source: LM Studio follows Cursor's mcp.json: {"url", "headers"} or {"command", "args", "env"}.
    """
    url, command = entry.get("url"), entry.get("command")
    if isinstance(url, str) and urls.is_http(url):
        return Http(url, _texts(entry.get("headers")))
    if isinstance(command, str) and command:
        args = entry.get("args")
        cwd = entry.get("cwd")
        return Stdio(
            command,
            tuple(str(arg) for arg in args) if isinstance(args, list) else (),
            _texts(entry.get("env")),
            cwd if isinstance(cwd, str) and cwd else None,
        )
    return None


def write_private(path: Path, text: str, *, mode: int = 0o600, owner: tuple[int, int] | None = None) -> None:
    """Replace a file as a whole: written beside it, synced, renamed over it. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # made 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            if owner is not None and owner != (os.geteuid(), os.getegid()):
                os.chown(temporary, *owner)
            os.chmod(temporary, mode)  # noqa: PTH101 - pairs with chown above
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    return {str(key): str(text) for key, text in value.items() if isinstance(text, str | int | float)}


def _read(path: Path) -> dict[str, Mapping[str, Any]]:
    try:
        document = json.loads(bounded_file.read_text(path, only_files=True))
        servers = document["mcpServers"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = bounded_file.why(error) if isinstance(error, OSError | ValueError) else type(error).__name__
        raise RegistryBroken(f"{path} cannot be read: {why}; it holds the adopted servers") from error
    if not isinstance(servers, dict) or not all(isinstance(entry, dict) for entry in servers.values()):
        raise RegistryBroken(f"{path} has no table of servers")
    return servers
