"""Drive a daemon with LM Studio's official TypeScript SDK and bring back what it saw.

Starts node/harness.mjs and speaks its JSON lines; knows neither the scenarios nor the simulator.
"""

import asyncio
import json
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.external import NODE_PROJECT

Checkpoint = Callable[[Any], Awaitable[None]]
"""What the test does while the scenario waits; gets the value the scenario passed on."""

TIMEOUT_S = 60.0  # a scenario takes about a second; this only ends one that hangs


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one scenario returned and what the SDK had to say about the daemon."""

    result: Any
    crash: str | None
    complaints: tuple[str, ...]
    schema: tuple[str, ...]
    frames: int
    stderr: str

    def accept(self, *, complaints: Sequence[str] = (), tolerated: Sequence[str] = ()) -> Any:
        """Return the result; fail when the SDK complained of anything but these patterns.

        Each of `complaints` must occur; `tolerated` ones may, where the SDK itself is known to be undecided.
        """
        expected = [re.compile(pattern) for pattern in complaints]
        allowed = [*expected, *(re.compile(pattern) for pattern in tolerated)]
        wrong = [f"crash: {self.crash}"] if self.crash else []
        wrong += [f"stderr: {self.stderr}"] if self.stderr else []
        wrong += [f"schema: {finding}" for finding in self.schema]
        wrong += [f"complaint: {c}" for c in self.complaints if not any(a.search(c) for a in allowed)]
        wrong += [f"missing: {e.pattern}" for e in expected if not any(e.search(c) for c in self.complaints)]
        if not self.frames and not expected:
            wrong.append("the daemon sent nothing")
        if wrong:
            raise AssertionError("\n".join(wrong))
        return self.result


async def _converse(process: asyncio.subprocess.Process, on: Mapping[str, Checkpoint]) -> dict[str, Any]:
    assert process.stdout is not None
    assert process.stdin is not None
    async for line in process.stdout:
        message: dict[str, Any] = json.loads(line)
        if "checkpoint" not in message:
            return message
        await on[message["checkpoint"]](message["value"])
        process.stdin.write(b"null\n")
        await process.stdin.drain()
    return {"result": None, "crash": "node said nothing more", "complaints": [], "schema": [], "frames": 0}


async def judge(
    scenario: str,
    url: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    on: Mapping[str, Checkpoint] | None = None,
    env: Mapping[str, str] | None = None,
) -> Verdict:
    """Run one scenario against the daemon at the http:// or ws:// URL; `on` says what to do at its checkpoints."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(NODE_PROJECT / "harness.mjs"),
        scenario,
        re.sub(r"^http", "ws", url).rstrip("/"),
        json.dumps(dict(arguments or {})),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=16 * 2**20,  # a report holds every fragment of a prediction
        env={k: v for k, v in os.environ.items() if k != "LM_API_TOKEN"} | dict(env or {}),
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            message, stderr = await asyncio.gather(_converse(process, on or {}), process.stderr.read())
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Verdict(
        result=message["result"],
        crash=message["crash"],
        complaints=tuple(message["complaints"]),
        schema=tuple(message["schema"]),
        frames=message["frames"],
        stderr=stderr.decode(),
    )
