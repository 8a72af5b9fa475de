"""Serve the OpenAI-compatible routes and their /api/v0 twins: chat, completion, embeddings.

Implements the smallest useful part of those shapes; /api/v0 adds the daemon's own stats to them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

from llmster_sim.engine.jobs import Failed, Finished, JobEvent, Piece
from llmster_sim.engine.requests import Tool, chat_ask, text_ask
from llmster_sim.models.generation import tokenize
from llmster_sim.models.prompts import Message
from llmster_sim.rest.http import invalid, json_response, received
from llmster_sim.rest.models import required
from llmster_sim.rest.targets import target, work_failed
from llmster_sim.rest.work import Work, event_stream, send_event
from llmster_sim.wire.model_calls import embedding_ask, vector

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmster_sim.clock import Clock
    from llmster_sim.engine.daemon import Daemon
    from llmster_sim.engine.instances import Instance
    from llmster_sim.engine.jobs import Ask, Stats
    from llmster_sim.models.generation import Generation, ToolCall
    from llmster_sim.rest.http import Router

_FINISH = {
    "toolCalls": "tool_calls",
    "maxPredictedTokensReached": "length",
    "contextLengthReached": "length",
}


class CompatRoutes:
    """Routes other clients already know."""

    def __init__(self, *, daemon: Daemon, clock: Clock) -> None:
        self._daemon = daemon
        self._clock = clock

    def add_to(self, router: Router) -> None:
        """Take over the routes."""
        for root in ("/v1", "/api/v0"):
            router.exact |= {
                ("POST", f"{root}/chat/completions"): self._chat,
                ("POST", f"{root}/completions"): self._complete,
                ("POST", f"{root}/embeddings"): self._embed,
            }

    async def _begin(self, request: web.Request, *, domain: str) -> tuple[dict[str, Any], str]:
        body = await received(self._daemon, request)
        return body, target(daemon=self._daemon, name=required(body, "model"), domain=domain)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body, key = await self._begin(request, domain="llm")
        messages = _messages(body)
        tools = [
            Tool(name=tool["function"]["name"], parameters=tool["function"].get("parameters") or {})
            for tool in body.get("tools") or ()
            if isinstance(tool, dict) and tool.get("type") == "function"
        ]

        def ask(instance: Instance) -> Ask:
            self._daemon.server_line(
                level="info",
                scope=instance.identifier,
                text=f"Running chat completion on conversation with {len(messages)} messages.",
            )
            return chat_ask(
                model=instance.model,
                messages=messages,
                route=request.path,
                tools=tools,
                max_tokens=_limit(body),
                stream=bool(body.get("stream")),
                draft=bool(body.get("draft_model")),
            )

        return await self._answer(request, body, key, ask, kind="chat.completion")

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body, key = await self._begin(request, domain="llm")
        prompt = body.get("prompt")
        if not isinstance(prompt, str):
            raise invalid('"prompt" is required', code="missing_required_parameter", param="prompt")

        def ask(_instance: Instance) -> Ask:
            return text_ask(
                prompt=prompt,
                route=request.path,
                max_tokens=_limit(body),
                stream=bool(body.get("stream")),
            )

        return await self._answer(request, body, key, ask, kind="text_completion")

    async def _answer(
        self,
        request: web.Request,
        body: dict[str, Any],
        key: str,
        ask: Callable[[Instance], Ask],
        *,
        kind: str,
    ) -> web.StreamResponse:
        work = Work(daemon=self._daemon, key=key, ask=ask)
        prefix = "chatcmpl" if kind == "chat.completion" else "cmpl"
        head = {
            "id": f"{prefix}-{self._daemon.rng.getrandbits(96):024x}",
            "object": kind,
            "created": self._clock.now_ms // 1000,
            "model": key,
        }
        try:
            if body.get("stream"):
                return await self._stream(request, work, head, kind)
            done = await work.finished()
            return json_response(self._whole(request.path, head, done, work.instance, kind))
        finally:
            work.cancel()

    def _whole(
        self, path: str, head: dict[str, Any], done: Finished, instance: Instance | None, kind: str
    ) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0}
        if kind == "chat.completion":
            choice["message"] = _message(done.generation)
        else:
            choice["text"] = done.generation.text
        choice |= {"logprobs": None, "finish_reason": _FINISH.get(done.stats.stop_reason, "stop")}
        answer = {**head, "choices": [choice], "usage": _usage(done.stats, done.generation)}
        if path.startswith("/api/v0/") and instance is not None:
            stats, model = done.stats, instance.model
            answer["stats"] = {
                "tokens_per_second": stats.tokens_per_second or 0,
                "time_to_first_token": round(stats.first_token_s or 0, 3),
                "generation_time": round(stats.total_s, 3),
                "stop_reason": stats.stop_reason,
            }
            answer["model_info"] = {
                "arch": model.architecture,
                "quant": model.quantization[0],
                "format": model.format,
                "context_length": instance.config.context_length,
            }
            answer["runtime"] = {
                "name": model.engine.name,
                "version": model.engine.version,
                "supported_formats": [model.format],
            }
        return answer

    async def _stream(
        self, request: web.Request, work: Work, head: dict[str, Any], kind: str
    ) -> web.StreamResponse:
        head = {**head, "object": "chat.completion.chunk" if kind == "chat.completion" else kind}
        async with event_stream(request) as response:
            async for event in work.events():
                for choice in _chunks(event, kind):
                    await send_event(response, {**head, "choices": [choice]})
                if isinstance(event, Failed):
                    await send_event(response, {"error": work_failed(event.error, key=work.key)})
            await response.write(b"data: [DONE]\n\n")
        return response

    async def _embed(self, request: web.Request) -> web.StreamResponse:
        body, key = await self._begin(request, domain="embedding")
        value = body.get("input")
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise invalid('"input" is required', code="missing_required_parameter", param="input")
        for text in texts:
            await self._embed_one(request, key, text)
        count = sum(len(tokenize(text)) for text in texts)
        return json_response(
            {
                "object": "list",
                "data": [
                    {"object": "embedding", "embedding": vector(text), "index": index}
                    for index, text in enumerate(texts)
                ],
                "model": key,
                "usage": {"prompt_tokens": count, "total_tokens": count},
            }
        )

    async def _embed_one(self, request: web.Request, key: str, text: str) -> None:
        ask = embedding_ask(text, route=request.path)
        await Work(daemon=self._daemon, key=key, ask=lambda _instance: ask, domain="embedding").finished()


def _chunks(event: JobEvent, kind: str) -> list[dict[str, Any]]:
    """Give the choices one event becomes."""
    end = {"logprobs": None, "finish_reason": None}
    if isinstance(event, Finished):
        reason = _FINISH.get(event.stats.stop_reason, "stop")
        content: dict[str, Any] = {"delta": {}} if kind == "chat.completion" else {"text": ""}
        return [{"index": 0, **content, "logprobs": None, "finish_reason": reason}]
    if not isinstance(event, Piece):
        return []
    segment = event.segment
    if kind != "chat.completion":
        return [{"index": 0, "text": event.text, **end}]
    delta: dict[str, Any] | None = None
    if segment.kind == "message":
        delta = {"content": event.text}
    elif segment.kind == "reasoning":
        delta = {"reasoning_content": event.text}
    elif segment.call is not None and event.last:
        delta = {"tool_calls": [_call(segment.call, 0)]}
    return [] if delta is None else [{"index": 0, "delta": {"role": "assistant", **delta}, **end}]


def _call(call: ToolCall, index: int) -> dict[str, Any]:
    return {
        "index": index,
        "id": call.call_id,
        "type": "function",
        "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
    }


def _message(generation: Generation) -> dict[str, Any]:
    # Assumed: reasoning apart from the content, as with the setting separateReasoningContentInAPI.
    message: dict[str, Any] = {"role": "assistant", "content": generation.of("message")}
    if generation.of("reasoning"):
        message["reasoning_content"] = generation.of("reasoning")
    message["tool_calls"] = [_call(call, index) for index, call in enumerate(generation.calls)]
    return message


def _usage(stats: Stats, generation: Generation) -> dict[str, Any]:
    return {
        "prompt_tokens": stats.prompt_tokens,
        "completion_tokens": stats.predicted_tokens,
        "total_tokens": stats.prompt_tokens + stats.predicted_tokens,
        "completion_tokens_details": {"reasoning_tokens": generation.count("reasoning")},
    }


def _limit(body: dict[str, Any]) -> int | None:
    value = body.get("max_tokens", body.get("max_completion_tokens"))
    return value if isinstance(value, int) and value >= 0 else None


def _messages(body: dict[str, Any]) -> list[Message]:
    raw = body.get("messages")
    if not isinstance(raw, list):
        raise invalid('"messages" is required', code="missing_required_parameter", param="messages")
    messages: list[Message] = []
    for item in raw:
        role = item.get("role") if isinstance(item, dict) else None
        if role not in {"system", "user", "assistant", "tool"}:
            raise invalid('Invalid item in "messages"', code="invalid_union", param="messages")
        content = item.get("content") or ""
        if isinstance(content, list):
            content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
        messages.append(Message(role=role, text=str(content)))
    return messages
