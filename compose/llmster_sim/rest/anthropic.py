"""Serve `POST /v1/messages`: Anthropic's messages API, plain and as server-sent events.

Source: Anthropic's API reference, "Messages" and "Streaming messages"; LM Studio's documentation lists the route.
Assumed: reasoning comes as `thinking` blocks, with an empty signature.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

from llmster_sim.engine.jobs import Failed, Finished, Piece
from llmster_sim.engine.requests import Tool
from llmster_sim.models.prompts import Message
from llmster_sim.rest.http import invalid, json_response, received
from llmster_sim.rest.models import required
from llmster_sim.rest.targets import target
from llmster_sim.rest.work import Work, chat_work, event_stream, send_event

if TYPE_CHECKING:
    from llmster_sim.engine.daemon import Daemon
    from llmster_sim.models.generation import Generation, ToolCall
    from llmster_sim.rest.http import Router

_STOP = {
    "toolCalls": "tool_use",
    "maxPredictedTokensReached": "max_tokens",
    "contextLengthReached": "max_tokens",
    "stopStringFound": "stop_sequence",
}
_BLOCKS = {"message": "text", "reasoning": "thinking"}


class MessagesRoutes:
    """The messages API."""

    def __init__(self, *, daemon: Daemon) -> None:
        self._daemon = daemon

    def add_to(self, router: Router) -> None:
        """Take over the route."""
        router.exact |= {("POST", "/v1/messages"): self._answer}

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await received(self._daemon, request)
        key = target(daemon=self._daemon, name=required(body, "model"), domain="llm")
        messages, limit = _messages(body), body.get("max_tokens")
        tools = [
            Tool(name=str(tool.get("name")), parameters=tool.get("input_schema") or {})
            for tool in body.get("tools") or ()
            if isinstance(tool, dict)
        ]

        head = {
            "id": f"msg_{self._daemon.rng.getrandbits(96):024x}",
            "type": "message",
            "role": "assistant",
            "model": key,
        }
        work = chat_work(self._daemon, request, body, key=key, messages=messages, tools=tools, limit=limit)
        try:
            if body.get("stream"):
                return await self._stream(request, work, head)
            done = await work.finished()
            return json_response(
                {
                    **head,
                    "content": _content(done.generation),
                    "stop_reason": _STOP.get(done.stats.stop_reason, "end_turn"),
                    "stop_sequence": None,
                    "usage": {
                        "input_tokens": done.stats.prompt_tokens,
                        "output_tokens": done.stats.predicted_tokens,
                    },
                }
            )
        finally:
            work.cancel()

    async def _stream(self, request: web.Request, work: Work, head: dict[str, Any]) -> web.StreamResponse:
        async with event_stream(request) as response:
            stream = _Stream(response)
            usage = {"input_tokens": 0, "output_tokens": 0}
            message = {**head, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
            await stream.send("message_start", message=message)
            await stream.send("ping")
            async for event in work.events():
                if isinstance(event, Piece):
                    await stream.piece(event)
                elif isinstance(event, Finished):
                    await stream.finish(event)
                elif isinstance(event, Failed):
                    await stream.send("error", error={"type": "api_error", "message": event.error.title})
        return response


class _Stream:
    """The events of one answer."""

    def __init__(self, response: web.StreamResponse) -> None:
        self._response = response
        self._index = -1
        self._kind: str | None = None

    async def send(self, type_: str, **data: Any) -> None:
        """Send one event."""
        await send_event(self._response, {"type": type_, **data}, event=type_)

    async def piece(self, event: Piece) -> None:
        """Send what was generated; markup between the blocks is not sent."""
        segment = event.segment
        if segment.call is not None:
            if event.last:
                await self._call(segment.call)
        elif (kind := _BLOCKS.get(segment.kind)) is not None:
            if self._kind != kind:
                await self._open(
                    {"type": kind, kind: "", **({"signature": ""} if kind == "thinking" else {})}
                )
            await self._delta({"type": f"{kind}_delta", kind: event.text})

    async def finish(self, event: Finished) -> None:
        """Close the last block and say why the model stopped."""
        await self._close()
        delta = {"stop_reason": _STOP.get(event.stats.stop_reason, "end_turn"), "stop_sequence": None}
        usage = {"input_tokens": event.stats.prompt_tokens, "output_tokens": event.stats.predicted_tokens}
        await self.send("message_delta", delta=delta, usage=usage)
        await self.send("message_stop")

    async def _call(self, call: ToolCall) -> None:
        await self._open({"type": "tool_use", "id": call.call_id, "name": call.name, "input": {}})
        await self._delta({"type": "input_json_delta", "partial_json": json.dumps(call.arguments)})
        await self._close()

    async def _open(self, block: dict[str, Any]) -> None:
        await self._close()
        self._index += 1
        self._kind = block["type"]
        await self.send("content_block_start", index=self._index, content_block=block)

    async def _delta(self, delta: dict[str, Any]) -> None:
        await self.send("content_block_delta", index=self._index, delta=delta)

    async def _close(self) -> None:
        if self._kind is not None:
            await self.send("content_block_stop", index=self._index)
            self._kind = None


def _content(generation: Generation) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if generation.of("reasoning"):
        blocks.append({"type": "thinking", "thinking": generation.of("reasoning"), "signature": ""})
    if generation.of("message"):
        blocks.append({"type": "text", "text": generation.of("message")})
    blocks += [
        {"type": "tool_use", "id": call.call_id, "name": call.name, "input": call.arguments}
        for call in generation.calls
    ]
    return blocks


def _messages(body: dict[str, Any]) -> list[Message]:
    given = body.get("messages")
    if not isinstance(given, list):
        raise invalid('"messages" is required', code="missing_required_parameter", param="messages")
    system = body.get("system")
    messages = [Message(role="system", text=_text(system))] if system else []
    for item in given:
        if not isinstance(item, dict) or item.get("role") not in {"user", "assistant"}:
            raise invalid('Invalid item in "messages"', code="invalid_union", param="messages")
        content = item.get("content")
        results = [part for part in content if _is_result(part)] if isinstance(content, list) else []
        messages += [Message(role="tool", text=_text(part.get("content"))) for part in results]
        if (text := _text(content)) or not results:
            messages.append(Message(role=item["role"], text=text))
    return messages


def _is_result(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "tool_result"


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")
