"""Commands of the screen's keys: the verbs of `daemonpulse actions`, run as a program, so that both do the same."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

TIMEOUT_S: Final = 600.0
"""A load of a large model takes minutes."""
MAX_ARGUMENT_CHARS: Final = 400


class Refused(Exception):
    """The command did not succeed; the message is what it wrote to stderr."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A tool call that waits for an approval."""

    id: str
    title: str
    arguments: str


class Commands:
    """Runs verbs of `daemonpulse actions` against one actions API."""

    def __init__(self, url: str | None, token_file: Path | None) -> None:
        flags = ["--url", url] if url else []
        self._flags = [*flags, "--token-file", str(token_file)] if token_file else flags

    async def eject(self, daemon: str, identifier: str, *, force: bool) -> str:
        """Eject an instance; `force` also while it has requests in flight. Raises Refused."""
        await self._run("eject", identifier, "--daemon", daemon, *(["--force"] if force else []))
        return f"{identifier} ejected from {daemon}"

    async def load(self, daemon: str, model: str) -> str:
        """Load a model with its defaults. Raises Refused."""
        await self._run("load", model, "--daemon", daemon)
        return f"{model} loaded on {daemon}"

    async def pending(self) -> list[Pending]:
        """List pending tool calls, oldest first. Raises Refused."""
        answer = json.loads(await self._run("mcp", "approvals", "--json"))
        return [_pending(one) for one in answer.get("approvals", [])]

    async def approve(self, approval_id: str) -> str:
        """Approve one tool call. Raises Refused."""
        await self._run("mcp", "approve", approval_id)
        return f"{approval_id} approved"

    async def _run(self, *words: str) -> str:
        process = await asyncio.create_subprocess_exec(
            # -P: a module in the working directory is not taken for one of this program's
            *(sys.executable, "-P", "-m", "daemonpulse", "actions", *words, *self._flags),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
        except TimeoutError:
            raise Refused(f"daemonpulse actions {words[0]}: no end after {TIMEOUT_S:.0f} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        if process.returncode != 0:
            said = err.decode(errors="replace").strip().splitlines()
            raise Refused(
                said[-1] if said else f"daemonpulse actions {words[0]}: exit code {process.returncode}"
            )
        return out.decode(errors="replace")


def _pending(one: Any) -> Pending:
    title = f"{one.get('server')}/{one.get('tool')} for {one.get('token')}"
    return Pending(str(one["id"]), title, str(one.get("arguments") or "")[:MAX_ARGUMENT_CHARS])
