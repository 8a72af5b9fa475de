"""Serve `POST /v1/responses`: OpenAI's responses API, plain and as server-sent events.

Source: OpenAI's API reference, "Responses" and "Streaming events"; LM Studio's documentation lists the route. Assumed:
reasoning comes as items of type `reasoning` with `reasoning_text` parts, as OpenAI documents for open-weight models.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, Final, Literal

from aiohttp import web

from llmster_sim.engine.jobs import Failed, Finished, Piece
from llmster_sim.engine.requests import Tool
from llmster_sim.models.prompts import Message
from llmster_sim.rest.http import invalid, json_response, received
from llmster_sim.rest.models import required
from llmster_sim.rest.targets import target, work_failed
from llmster_sim.rest.work import Work, chat_work, event_stream, send_event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmster_sim.clock import Clock
    from llmster_sim.engine.daemon import Daemon
    from llmster_sim.models.generation import ToolCall
    from llmster_sim.rest.http import Router

_ROLES: Final[dict[str, Literal["system", "user", "assistant"]]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
_CUT_SHORT = frozenset({"maxPredictedTokensReached", "contextLengthReached"})


class ResponsesRoutes:
    """The responses API."""

    def __init__(self, *, daemon: Daemon, clock: Clock) -> None:
        self._daemon = daemon
        self._clock = clock

    def add_to(self, router: Router) -> None:
        """Take over the route."""
        router.exact |= {("POST", "/v1/responses"): self._respond}

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        body = await received(self._daemon, request)
        key = target(daemon=self._daemon, name=required(body, "model"), domain="llm")
        messages = _messages(body)
        limit = body.get("max_output_tokens")
        tools = [
            Tool(name=str(tool.get("name")), parameters=tool.get("parameters") or {})
            for tool in body.get("tools") or ()
            if isinstance(tool, dict) and tool.get("type") == "function"
        ]

        head: dict[str, Any] = {
            "id": f"resp_{self._daemon.rng.getrandbits(96):024x}",
            "object": "response",
            "created_at": self._clock.now_ms // 1000,
            "model": key,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": body.get("tools") or [],
        }
        work = chat_work(self._daemon, request, body, key=key, messages=messages, tools=tools, limit=limit)
        try:
            if body.get("stream"):
                return await self._stream(request, work, head)
            done = await work.finished()
            items = [item for item, _ in _items(done, head["id"])]
            return json_response(_response(head, done, items))
        finally:
            work.cancel()

    async def _stream(self, request: web.Request, work: Work, head: dict[str, Any]) -> web.StreamResponse:
        async with event_stream(request) as response:
            stream = _Stream(response, head)
            await stream.send("response.created", {"response": _response(head, None, [])})
            await stream.send("response.in_progress", {"response": _response(head, None, [])})
            async for event in work.events():
                if isinstance(event, Piece):
                    await stream.piece(event)
                elif isinstance(event, Finished):
                    await stream.finish(event)
                elif isinstance(event, Failed):
                    await stream.send("error", work_failed(event.error, key=work.key))
        return response


class _Stream:
    """The events of one answer, numbered."""

    def __init__(self, response: web.StreamResponse, head: dict[str, Any]) -> None:
        self._response = response
        self._head = head
        self._numbers = itertools.count()
        self._kind: str | None = None
        self._text = ""
        self._done: list[dict[str, Any]] = []

    async def send(self, type_: str, data: dict[str, Any]) -> None:
        """Send one event."""
        await send_event(
            self._response, {"type": type_, "sequence_number": next(self._numbers), **data}, event=type_
        )

    async def piece(self, event: Piece) -> None:
        """Send what was generated; markup between the parts is not sent."""
        segment = event.segment
        if segment.call is not None:
            if event.last:
                await self._close()
                await self._call(segment.call)
        elif segment.kind in {"message", "reasoning"}:
            if self._kind != segment.kind:
                await self._close()
                await self._open(segment.kind)
            self._text += event.text
            name = "output_text" if segment.kind == "message" else "reasoning_text"
            extra: dict[str, Any] = {"logprobs": []} if segment.kind == "message" else {}
            await self.send(f"response.{name}.delta", {**self._place(), "delta": event.text, **extra})

    async def finish(self, event: Finished) -> None:
        """Close what is open and send the whole answer."""
        await self._close()
        whole = _response(self._head, event, self._done)
        await self.send(f"response.{whole['status']}", {"response": whole})

    async def _open(self, kind: str) -> None:
        self._kind, self._text = kind, ""
        await self.send(
            "response.output_item.added",
            {"output_index": len(self._done), "item": _item(kind, "", self._id(), status="in_progress")},
        )
        await self.send("response.content_part.added", {**self._place(), "part": _part(kind, "")})

    async def _close(self) -> None:
        if self._kind is None:
            return
        kind, name = self._kind, "output_text" if self._kind == "message" else "reasoning_text"
        extra: dict[str, Any] = {"logprobs": []} if kind == "message" else {}
        await self.send(f"response.{name}.done", {**self._place(), "text": self._text, **extra})
        await self.send("response.content_part.done", {**self._place(), "part": _part(kind, self._text)})
        item = _item(kind, self._text, self._id(), status="completed")
        await self.send("response.output_item.done", {"output_index": len(self._done), "item": item})
        self._done.append(item)
        self._kind = None

    async def _call(self, call: ToolCall) -> None:
        item, place = _call_item(call, self._id()), {"item_id": self._id(), "output_index": len(self._done)}
        begun = {**item, "arguments": "", "status": "in_progress"}
        await self.send("response.output_item.added", {"output_index": len(self._done), "item": begun})
        arguments = item["arguments"]
        await self.send("response.function_call_arguments.delta", {**place, "delta": arguments})
        await self.send(
            "response.function_call_arguments.done", {**place, "arguments": arguments, "name": call.name}
        )
        await self.send("response.output_item.done", {"output_index": len(self._done), "item": item})
        self._done.append(item)

    def _id(self) -> str:
        return f"item_{self._head['id']}_{len(self._done)}"

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._id(), "output_index": len(self._done), "content_index": 0}


def _items(done: Finished, response_id: str) -> Iterator[tuple[dict[str, Any], int]]:
    """Give the items of a whole answer, in the order they were written."""
    kind, text, position = None, "", 0
    for segment in [*done.generation.segments, None]:
        if segment is not None and segment.call is None and segment.kind in {"message", "reasoning"}:
            if kind == segment.kind:
                text += segment.text
                continue
        elif segment is not None and segment.call is None:
            continue  # markup
        if kind is not None:
            yield _item(kind, text, f"item_{response_id}_{position}", status="completed"), position
            kind, position = None, position + 1
        if segment is not None and segment.call is not None:
            yield _call_item(segment.call, f"item_{response_id}_{position}"), position
            position += 1
        elif segment is not None and segment.call is None:
            kind, text = segment.kind, segment.text


def _item(kind: str, text: str, item_id: str, *, status: str) -> dict[str, Any]:
    if kind == "reasoning":
        return {
            "id": item_id,
            "type": "reasoning",
            "summary": [],
            "content": [_part(kind, text)],
            "status": status,
        }
    return {
        "id": item_id,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [_part(kind, text)] if text else [],
    }


def _part(kind: str, text: str) -> dict[str, Any]:
    if kind == "reasoning":
        return {"type": "reasoning_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _call_item(call: ToolCall, item_id: str) -> dict[str, Any]:
    return {
        "id": item_id,
        "type": "function_call",
        "call_id": call.call_id,
        "name": call.name,
        "arguments": json.dumps(call.arguments),
        "status": "completed",
    }


def _response(head: dict[str, Any], done: Finished | None, items: list[dict[str, Any]]) -> dict[str, Any]:
    if done is None:
        return {**head, "status": "in_progress", "output": [], "usage": None, "error": None}
    stats = done.stats
    is_cut = stats.stop_reason in _CUT_SHORT
    return {
        **head,
        "status": "incomplete" if is_cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "error": None,
        "output": items,
        "usage": {
            "input_tokens": stats.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": stats.predicted_tokens,
            "output_tokens_details": {"reasoning_tokens": done.generation.count("reasoning")},
            "total_tokens": stats.prompt_tokens + stats.predicted_tokens,
        },
    }


def _messages(body: dict[str, Any]) -> list[Message]:
    messages = [Message(role="system", text=str(body["instructions"]))] if body.get("instructions") else []
    given = body.get("input")
    if isinstance(given, str):
        return [*messages, Message(role="user", text=given)]
    if not isinstance(given, list):
        raise invalid('"input" is required', code="missing_required_parameter", param="input")
    for item in given:
        if not isinstance(item, dict):
            raise invalid('Invalid item in "input"', code="invalid_union", param="input")
        if item.get("type") == "function_call_output":
            messages.append(Message(role="tool", text=str(item.get("output", ""))))
        elif item.get("role") in _ROLES:
            content = item.get("content") or ""
            if isinstance(content, list):
                content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
            messages.append(Message(role=_ROLES[item["role"]], text=str(content)))
    return messages
