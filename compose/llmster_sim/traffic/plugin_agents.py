"""Generate agents whose tools the daemon runs: each chat calls several tools of the servers that mcp.json names.

Sends chats as an API client does; does not depend on the servers or their transport.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from llmster_sim.engine import log_events
from llmster_sim.errors import DaemonError
from llmster_sim.models.generation import prose
from llmster_sim.rest.chat_run import ChatRequest, ChatRun
from llmster_sim.rest.http import RestError
from llmster_sim.rest.integrations import ToolBench, read_integrations
from llmster_sim.traffic.steady import Traffic

if TYPE_CHECKING:
    from llmster_sim.engine.daemon import Daemon


# How soon an mcp.json without servers is looked at again.
_EMPTY_S = 1.0


class NamedTools(ToolBench, Protocol):
    """Tool servers that can be listed."""

    def names(self) -> tuple[str, ...]:
        """Name the servers of mcp.json."""


class PluginAgents(Traffic):
    """Two agents that chat through `/api/v1/chat` with every server of mcp.json, three to six calls a chat."""

    def __init__(self, *, daemon: Daemon, seed: int, bench: NamedTools) -> None:
        super().__init__(daemon=daemon, seed=seed)
        self._bench = bench
        self._tasks: set[asyncio.Task[None]] = set()
        self._runs: set[ChatRun] = set()

    def begin(self) -> None:
        """Start both agents."""
        for delay_s, name in ((1.0, "qwen/qwen3-8b"), (3.0, "openai/gpt-oss-20b")):
            self.later(delay_s, lambda name=name: self._open(name))  # type: ignore[misc]

    def stop(self) -> None:
        """Give up the chats: their client goes away."""
        super().stop()
        for task in self._tasks:
            task.cancel()
        for run in self._runs:
            run.cancel()
        self._runs.clear()

    def _open(self, name: str) -> None:
        text = prose(rng=self.rng, words=self.rng.randrange(15, 80))
        rounds = self.rng.randrange(3, 7)
        task = asyncio.get_running_loop().create_task(self._chat(name, text, rounds))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _chat(self, name: str, text: str, rounds: int) -> None:
        wanted = [f"mcp/{server}" for server in self._bench.names()]
        if not wanted:
            self._again(name, _EMPTY_S)
            return
        body = {"model": name, "stream": True, "integrations": wanted}
        self.daemon.server_line(
            level="debug", text=log_events.received_request(method="POST", path="/api/v1/chat", body=body)
        )
        try:
            integrations = await read_integrations(wanted, settings=self.daemon.settings, bench=self._bench)
            model = self.daemon.model(name, domain="llm")
        except (RestError, DaemonError):
            self._again(name)
            return
        chat = ChatRequest(
            target=name,
            model=model,
            text=text,
            system=None,
            integrations=tuple(integrations),
            thinking=model.reasons,
            max_tokens=None,
            context_length=None,
            store=False,
            former=None,
            tool_rounds=rounds,
        )

        def hear(event: dict[str, Any]) -> None:
            if event["type"] == "chat.end":
                self._runs.discard(run)
                self._again(name)

        run = ChatRun(daemon=self.daemon, chat=chat, emit=hear, remember=lambda _remembered: "")
        self._runs.add(run)
        run.start()

    def _again(self, name: str, delay_s: float | None = None) -> None:
        if self._active:
            delay_s = delay_s if delay_s is not None else self.rng.uniform(4.0, 9.0)
            self.later(delay_s, lambda: self._open(name))
