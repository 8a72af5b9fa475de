"""Real programs of ours as processes: started, listened to, frozen, killed. Knows signals and log lines, no metric."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
READY_WITHIN_S = 60.0
"""Only a guard: starting takes a second or two, and far longer on a host that has other things to do."""


def environment(**variables: str) -> dict[str, str]:
    """Give this process' environment without settings of ours, and with these."""
    ours = ("DAEMONPULSE_", "LM_API", "OTEL_")
    return {key: value for key, value in os.environ.items() if not key.startswith(ours)} | variables


class Program:
    """One running process and every line it has written."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._news = asyncio.Condition()
        self._listening = asyncio.gather(
            *(self._listen(out) for out in (process.stdout, process.stderr) if out)
        )

    @classmethod
    async def start(cls, name: str, *arguments: str, variables: dict[str, str] | None = None) -> "Program":
        """Start one of our commands."""
        process = await asyncio.create_subprocess_exec(
            BIN / name,
            *arguments,
            env=environment(**(variables or {})),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return cls(process)

    @property
    def pid(self) -> int:
        return self.process.pid

    async def said(self, words: str) -> str:
        """Wait for the first line with these words."""

        def found() -> str | None:
            return next((line for line in self.lines if words in line), None)

        async with asyncio.timeout(READY_WITHIN_S), self._news:
            await self._news.wait_for(lambda: found() or self._listening.done())
        line = found()
        assert line is not None, f"ended without saying {words!r}: {self.lines[-5:]}"
        return line

    async def url(self, words: str) -> str:
        """Wait for a line with these words and take the URL out of it."""
        found = re.search(r"https?://[^\s\"]+", await self.said(words))
        assert found is not None
        return found[0]

    def freeze(self) -> None:
        """Stop it as a debugger does: it lives, its sockets are open, and nobody is home."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """Kill -9: nothing of it gets a say."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._listening

    async def terminate(self) -> int:
        """Ask it to end, as an init system does, and give its exit status."""
        self.process.terminate()
        async with asyncio.timeout(READY_WITHIN_S):
            status = await self.process.wait()
        await self._listening
        return status

    def memory(self, key: str) -> int:
        """Bytes of VmRSS (now) or VmHWM (the most so far). Source: /proc/PID/status."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        found = re.search(rf"^{key}:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    async def _listen(self, out: asyncio.StreamReader) -> None:
        async for line in out:
            self.lines.append(line.decode(errors="replace").rstrip("\n"))
            async with self._news:
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()
