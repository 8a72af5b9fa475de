"""Turn an API request into an ask: the templated prompt and what the model will answer.

Pure and seeded by the request's own text, so the same request always gets the same answer.
"""

from __future__ import annotations

import dataclasses
import json
import random
import re
import zlib
from typing import TYPE_CHECKING, Any

from llmster_sim.engine.jobs import Ask
from llmster_sim.models.generation import generate, new_call, tokenize
from llmster_sim.models.prompts import Message, format_messages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmster_sim.models.catalogue import Model
    from llmster_sim.models.generation import ToolCall


_ORDER = re.compile(r"call (?P<name>\S+) (?P<arguments>\{.*\})", re.DOTALL)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function the model may call."""

    name: str
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _arguments(*, rng: random.Random, tool: Tool) -> dict[str, Any]:
    """Arguments that fit the tool's JSON schema as far as simple types go."""
    properties = tool.parameters.get("properties", {})
    made: dict[str, Any] = {}
    for name, schema in properties.items():
        kind = schema.get("type") if isinstance(schema, dict) else None
        options = schema.get("enum") if isinstance(schema, dict) else None
        if options:
            made[name] = rng.choice(options)
        elif kind in {"number", "integer"}:
            made[name] = rng.randrange(1, 10)
        elif kind == "boolean":
            made[name] = rng.choice((True, False))
        elif kind == "array":
            made[name] = []
        elif kind == "object":
            made[name] = {}
        else:
            made[name] = rng.choice(("report", "queue depth", "notes", "latest"))
    return made


def _told(messages: Sequence[Message]) -> tuple[str, dict[str, Any]] | None:
    match = _ORDER.fullmatch(messages[-1].text) if messages else None
    if match is None:
        return None
    try:
        arguments = json.loads(match["arguments"])
    except ValueError:
        return None
    return match["name"], arguments if isinstance(arguments, dict) else {}


def chat_ask(
    *,
    model: Model,
    messages: Sequence[Message],
    route: str | None,
    tools: Sequence[Tool] = (),
    thinking: bool = True,
    max_tokens: int | None = None,
    stream: bool = False,
    draft: bool = False,
    scale: float = 1.0,
) -> Ask:
    """Make an ask for a chat. With tools, and no tool result as the last message, the model calls one of them.

    Which one, and with what, a user may say: `call NAME {"some": "arguments"}`. Models also call what is not there.
    """
    shown = list(messages)
    if tools:
        listing = json.dumps([{"name": tool.name, "parameters": tool.parameters} for tool in tools])
        shown.insert(0, Message(role="system", text=f"# Tools\n{listing}"))
    prompt = format_messages(family=model.family, messages=shown, thinking=thinking)
    rng = random.Random(zlib.crc32(prompt.encode()))
    calls: list[ToolCall] = []
    if tools and model.tools and (not messages or messages[-1].role != "tool"):
        tool = rng.choice(list(tools))
        name, arguments = _told(messages) or (tool.name, _arguments(rng=rng, tool=tool))
        calls.append(new_call(rng=rng, name=name, arguments=arguments))
    generation = generate(
        rng=rng,
        family=model.family,
        reasoning_words=int(rng.randrange(20, 70) * scale) if thinking and model.reasons else 0,
        answer_words=0 if calls else max(1, int(rng.randrange(25, 90) * scale)),
        calls=calls,
    )
    return Ask(
        prompt=prompt,
        generation=generation,
        prompt_tokens=len(tokenize(prompt)),
        messages=len(messages),
        route=route,
        max_tokens=max_tokens if max_tokens is not None and max_tokens >= 0 else None,
        stream=stream,
        draft=draft and model.draft_key is not None,
    )


def text_ask(*, prompt: str, route: str | None, max_tokens: int | None, stream: bool) -> Ask:
    """Make an ask to go on with a text: no template, no reasoning."""
    rng = random.Random(zlib.crc32(prompt.encode()))
    generation = generate(rng=rng, family="plain", reasoning_words=0, answer_words=rng.randrange(20, 60))
    return Ask(
        prompt=prompt,
        generation=generation,
        prompt_tokens=len(tokenize(prompt)),
        route=route,
        max_tokens=max_tokens if max_tokens is not None and max_tokens >= 0 else None,
        stream=stream,
    )
