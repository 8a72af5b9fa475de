"""Generate ordinary traffic on the daemon model: a steady mix, bursts, and agents with tools.

Uses the daemon's public methods only; every arrival is a seeded event on the virtual clock.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
from typing import TYPE_CHECKING

from llmster_sim.engine import log_events
from llmster_sim.engine.jobs import Failed, Finished, JobEvent, ignore
from llmster_sim.engine.requests import Tool, chat_ask
from llmster_sim.errors import DaemonError
from llmster_sim.models.generation import prose, tokenize
from llmster_sim.models.prompts import Message, continue_prompt
from llmster_sim.wire.model_calls import embedding_ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmster_sim.clock import Timer
    from llmster_sim.engine.daemon import Daemon, Request
    from llmster_sim.engine.instances import Instance
    from llmster_sim.engine.jobs import Ask

_TOOLS = (
    Tool(name="search_files", parameters={"properties": {"query": {"type": "string"}}}),
    Tool(name="read_file", parameters={"properties": {"path": {"type": "string"}}}),
    Tool(name="run_tests", parameters={"properties": {"verbose": {"type": "boolean"}}}),
)
# Models the mix asks for, by weight. The third is loaded just in time by its first request.
_MIX = (
    ("qwen/qwen3-8b", 6),
    ("openai/gpt-oss-20b", 3),
    ("deepseek/deepseek-r1-0528-qwen3-8b", 1),
)
# Shares of chats that bring tools, use a draft model, stream, and are given up by their user.
_WITH_TOOLS = 0.15
_WITH_DRAFT = 0.25
_STREAMED = 0.7
_GIVEN_UP = 0.08
_EMBEDDER = "text-embedding-nomic-embed-text-v1.5"
# Published: MCP servers that print to stderr show up as errors though nothing is wrong.
_MCP_STDERR = "stderr: INFO server ready"


class Traffic:
    """Something that keeps the daemon busy. `start` and `stop` may alternate."""

    def __init__(self, *, daemon: Daemon, seed: int) -> None:
        self.daemon = daemon
        self.clock = daemon.clock
        self.rng = random.Random(seed)
        self._timers: list[Timer] = []
        self._active = False

    def start(self) -> None:
        """Begin; a second start without a stop does nothing."""
        if not self._active:
            self._active = True
            self.begin()

    def stop(self) -> None:
        """Cause nothing more; what runs goes on."""
        self._active = False
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def begin(self) -> None:
        """Schedule the first events. Nothing by default: the idle scenario."""

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Run `action` then, unless stopped before."""
        self._timers = [
            timer for timer in self._timers if timer.at_s >= self.clock.now_s and not timer.cancelled
        ]
        self._timers.append(self.clock.call_later(delay_s, action))

    def every(self, mean_s: float, action: Callable[[], None]) -> None:
        """Run `action` at random intervals of this mean, as independent users do."""

        def again() -> None:
            action()
            self.later(self.rng.expovariate(1 / mean_s), again)

        self.later(self.rng.expovariate(1 / mean_s), again)

    def chat(
        self,
        *,
        name: str,
        ask: Callable[[Instance], Ask],
        notify: Callable[[JobEvent], None] = ignore,
    ) -> Request | None:
        """Send a chat as an HTTP client would, with the lines the server writes about it."""
        if self.daemon.find(name, domain="llm") is None and not self.daemon.settings.jit_loading:
            return None
        body = {"model": name, "stream": True}
        self.daemon.server_line(
            level="debug",
            text=log_events.received_request(method="POST", path="/v1/chat/completions", body=body),
        )

        def announced(instance: Instance) -> Ask:
            made = ask(instance)
            text = f"Running chat completion on conversation with {made.messages} messages."
            self.daemon.server_line(level="info", scope=instance.identifier, text=text)
            return made

        try:
            return self.daemon.request(name, ask=announced, notify=notify)
        except DaemonError:
            return None


class Steady(Traffic):
    """Users chatting, some with tools, some giving up; now and then an embedding."""

    def begin(self) -> None:
        """Schedule chats, embeddings and the odd harmless error line."""
        self.every(5.0, self._chat)
        self.every(7.0, self._embed)
        self.every(90.0, self._stderr)

    def _chat(self) -> None:
        rng = self.rng
        name = rng.choices([name for name, _ in _MIX], [weight for _, weight in _MIX])[0]
        words = rng.choice((12, 60, 240, 900))
        text = prose(rng=rng, words=words)
        tools = _TOOLS if rng.random() < _WITH_TOOLS else ()
        draft = rng.random() < _WITH_DRAFT
        stream = rng.random() < _STREAMED
        scale = rng.choice((1.0, 3.0, 7.0))
        request = self.chat(
            name=name,
            ask=lambda instance: chat_ask(
                model=instance.model,
                messages=[Message(role="user", text=text)],
                route="/v1/chat/completions",
                tools=tools,
                stream=stream,
                draft=draft,
                scale=scale,
            ),
        )
        if request is not None and rng.random() < _GIVEN_UP:
            self.later(rng.uniform(0.3, 2.0), request.cancel)

    def _embed(self) -> None:
        text = prose(rng=self.rng, words=self.rng.randrange(20, 200))
        self.daemon.server_line(
            level="debug",
            text=log_events.received_request(method="POST", path="/v1/embeddings", body={"model": _EMBEDDER}),
        )
        # Without that model on disk there is no target.
        with contextlib.suppress(DaemonError):
            self.daemon.request(
                _EMBEDDER, domain="embedding", ask=lambda _i: embedding_ask(text, route="/v1/embeddings")
            )

    def _stderr(self) -> None:
        self.daemon.server_line(level="error", scope="Plugin(mcp/filesystem)", text=_MCP_STDERR)


class Burst(Traffic):
    """Every 45 s a dozen requests at once, more than one instance can run: the queue fills."""

    def begin(self) -> None:
        """Schedule the first burst."""
        self.later(5.0, self._burst)

    def _burst(self) -> None:
        for _ in range(self.rng.randrange(10, 17)):
            text = prose(rng=self.rng, words=self.rng.randrange(40, 400))
            self.chat(
                name="qwen/qwen3-8b",
                ask=lambda instance, text=text: chat_ask(  # type: ignore[misc]
                    model=instance.model,
                    messages=[Message(role="user", text=text)],
                    route="/v1/chat/completions",
                    stream=True,
                    scale=2.0,
                ),
            )
        self.later(45.0, self._burst)


@dataclasses.dataclass(slots=True, kw_only=True)
class _Session:
    """One agent at work: its model, the turns it has left and what it said last."""

    name: str
    left: int
    prompt: str = ""
    output: str = ""


class Agent(Traffic):
    """Two agents, each turn beginning with the former turn's prompt and output, tools in between."""

    def begin(self) -> None:
        """Start both agents."""
        for delay_s, name in ((1.0, "qwen/qwen3-8b"), (3.0, "openai/gpt-oss-20b")):
            self.later(delay_s, lambda name=name: self._open(name))  # type: ignore[misc]

    def _open(self, name: str) -> None:
        self._turn(_Session(name=name, left=self.rng.randrange(4, 9)))

    def _turn(self, session: _Session) -> None:
        session.left -= 1
        message = Message(
            role="tool" if session.prompt else "user",
            text=prose(rng=self.rng, words=self.rng.randrange(15, 80)),
        )

        def ask(instance: Instance) -> Ask:
            first = chat_ask(
                model=instance.model,
                # The last turn answers; all others call a tool, which needs a user message last.
                messages=[message if session.left == 0 else dataclasses.replace(message, role="user")],
                route="/v1/chat/completions",
                tools=_TOOLS if session.left else (),
                stream=True,
                scale=2.0,
            )
            if not session.prompt:
                return first
            prompt = continue_prompt(
                family=instance.model.family,
                prompt=session.prompt,
                output=session.output,
                messages=[message],
            )
            return dataclasses.replace(first, prompt=prompt, prompt_tokens=len(tokenize(prompt)))

        def hear(event: JobEvent) -> None:
            if not self._active:
                return
            if isinstance(event, Finished) and session.left > 0 and event.generation.calls:
                session.output = event.generation.text
                self.later(self.rng.uniform(0.3, 2.5), lambda: self._turn(session))
            elif isinstance(event, Finished | Failed):
                self.later(self.rng.uniform(4.0, 9.0), lambda: self._open(session.name))

        def remember(instance: Instance) -> Ask:
            made = ask(instance)
            session.prompt = made.prompt
            return made

        if self.chat(name=session.name, ask=remember, notify=hear) is None:
            self.later(10.0, lambda: self._open(session.name))
