"""The demo's clients: programs that use the daemon through the tap, each with its own key and API.

Depends on the daemon's HTTP API, not on the simulator.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import httpx

_TIMEOUT: Final = httpx.Timeout(120.0)
_AGAIN_S: Final = 2.0
"""After an answer that did not come."""

_QUESTIONS: Final = (
    "Why does a longer prompt take longer until the first token?",
    "Write a haiku about a queue that is never empty.",
    "Which of these two log lines tells of the fault, and why?",
    "Summarise what changed between the two releases in three sentences.",
    "Name five causes of a slow disk, the most likely one first.",
    "Translate into French: the backup ran at four without an error.",
)


@dataclass(frozen=True, slots=True)
class Client:
    """One program."""

    name: str
    """How the tap names it, by its key."""
    path: str
    model: str
    pause_s: float
    """Mean time between an answer and the next question."""
    streams: bool = True

    @property
    def key(self) -> str:
        """Its API key; the simulated daemon asks for none."""
        return f"demo-key-of-{self.name}"

    def body(self, question: str) -> Mapping[str, Any]:
        """Write a request."""
        common = {"model": self.model, "stream": self.streams}
        if self.path == "/v1/embeddings":
            return {"model": self.model, "input": question}
        if self.path in {"/v1/responses", "/api/v1/chat"}:
            return {**common, "input": question}
        return {**common, "max_tokens": 700, "messages": [{"role": "user", "content": question}]}


CLIENTS: Final = (
    Client("chat-ui", "/v1/chat/completions", "openai/gpt-oss-20b", 0.7),
    Client("code-review", "/v1/messages", "qwen/qwen3-8b", 6.0),
    Client("support-bot", "/api/v1/chat", "openai/gpt-oss-20b", 3.0),
    Client("nightly-batch", "/v1/responses", "qwen/qwen3-8b", 12.0, streams=False),
    Client("search-index", "/v1/embeddings", "text-embedding-nomic-embed-text-v1.5", 7.0),
)


def key_hashes() -> dict[str, str]:
    """Give the map from keys to names that the tap is told."""
    return {hashlib.sha256(client.key.encode()).hexdigest(): client.name for client in CLIENTS}


async def ask_for_ever(url: str, *, seed: int) -> NoReturn:
    """Let all clients ask at `url` until cancelled; an answer that fails is asked for again later."""
    async with (
        httpx.AsyncClient(base_url=url, timeout=_TIMEOUT, trust_env=False) as http,
        asyncio.TaskGroup() as group,
    ):
        for number, client in enumerate(CLIENTS):
            group.create_task(_ask_for_ever(http, client, random.Random(seed * 101 + number)))  # noqa: S311 - when to ask
    raise AssertionError("clients ask until they are cancelled")


async def _ask_for_ever(http: httpx.AsyncClient, client: Client, rng: random.Random) -> NoReturn:
    headers = {"Authorization": f"Bearer {client.key}", "User-Agent": client.name}
    while True:
        await asyncio.sleep(rng.expovariate(1 / client.pause_s))
        try:
            async with http.stream(
                "POST", client.path, json=client.body(rng.choice(_QUESTIONS)), headers=headers
            ) as answer:
                async for _ in answer.aiter_raw():
                    pass
        except httpx.HTTPError:
            await asyncio.sleep(_AGAIN_S)
