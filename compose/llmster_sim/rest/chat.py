"""Serve `POST /api/v1/chat`: plain or as server-sent events, with reasoning, model loads and tools.

Request and event shapes follow the official docs; one run is a chain of callbacks in virtual time.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web

from llmster_sim.rest.chat_run import ChatRequest, ChatRun, Remembered
from llmster_sim.rest.http import RestError, invalid, json_response, received
from llmster_sim.rest.integrations import read_integrations
from llmster_sim.rest.models import closed, required
from llmster_sim.rest.targets import target
from llmster_sim.rest.work import event_stream, send_event

if TYPE_CHECKING:
    from llmster_sim.engine.daemon import Daemon
    from llmster_sim.rest.http import Router
    from llmster_sim.rest.integrations import ToolBench

_KEYS = {
    "model",
    "input",
    "system_prompt",
    "integrations",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "max_output_tokens",
    "reasoning",
    "context_length",
    "store",
    "previous_response_id",
}


class ChatRoutes:
    """The v1 chat route and what it remembers of stored chats."""

    def __init__(self, *, daemon: Daemon, bench: ToolBench | None) -> None:
        self._daemon = daemon
        self._bench = bench
        self._stored: dict[str, Remembered] = {}

    def add_to(self, router: Router) -> None:
        """Take over the route."""
        router.exact["POST", "/api/v1/chat"] = self._chat

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await received(self._daemon, request)
        chat = await self._read(body)
        events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        run = ChatRun(daemon=self._daemon, chat=chat, emit=events.put_nowait, remember=self._remember)
        run.start()
        try:
            if body.get("stream"):
                return await self._stream(request, events)
            return await self._whole(events)
        finally:
            run.cancel()

    async def _read(self, body: dict[str, Any]) -> ChatRequest:
        closed(body, allowed=_KEYS)
        name = required(body, "model")
        text = _input_text(body.get("input"))
        wanted = target(daemon=self._daemon, name=name, domain="llm")
        instance = self._daemon.find(wanted, domain="llm")
        model = instance.model if instance is not None else self._daemon.model(wanted, domain="llm")
        reasoning = body.get("reasoning")
        if reasoning is not None and reasoning not in model.reasoning_options:
            # Assumed: the wording; that it is an error is documented.
            raise invalid(
                f"Model does not support reasoning setting '{reasoning}'",
                code="invalid_value",
                param="reasoning",
            )
        former = None
        if body.get("previous_response_id") is not None:
            former = self._stored.get(body["previous_response_id"])
            if former is None:
                raise invalid(
                    f"Response not found: {body['previous_response_id']}",
                    code="invalid_value",
                    param="previous_response_id",
                )
        integrations = await read_integrations(
            body.get("integrations"), settings=self._daemon.settings, bench=self._bench
        )
        return ChatRequest(
            target=wanted,
            model=model,
            text=text,
            system=body.get("system_prompt"),
            integrations=tuple(integrations),
            thinking=(reasoning or model.reasoning_default or "off") != "off",
            max_tokens=body.get("max_output_tokens"),
            context_length=body.get("context_length"),
            store=body.get("store", True) is not False,
            former=former,
        )

    def _remember(self, remembered: Remembered) -> str:
        response_id = f"resp_{self._daemon.rng.getrandbits(192):048x}"
        self._stored[response_id] = remembered
        return response_id

    async def _whole(self, events: asyncio.Queue[dict[str, Any]]) -> web.StreamResponse:
        error: Any = None
        while True:
            event = await events.get()
            if event["type"] == "error":
                error = event["error"]
            elif event["type"] == "chat.end":
                if error is not None:
                    status = 400 if error.get("type") == "invalid_request_error" else 500
                    raise RestError(status=status, error=error)
                return json_response(event["result"])

    async def _stream(
        self, request: web.Request, events: asyncio.Queue[dict[str, Any]]
    ) -> web.StreamResponse:
        async with event_stream(request, Connection="keep-alive") as response:
            while True:
                event = await events.get()
                await send_event(response, event, event=event["type"])
                if event["type"] == "chat.end":
                    break
        return response


def _input_text(value: Any) -> str:
    if value is None:
        raise invalid('"input" is required', code="missing_required_parameter", param="input")
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise invalid('"input" must be a string or an array', code="invalid_type", param="input")
    texts: list[str] = []
    for item in value:
        kind = item.get("type") if isinstance(item, dict) else None
        # Observed: the docs name the text item `message` in the table and `text` in the example.
        if kind in {"message", "text"} and isinstance(item.get("content"), str):
            texts.append(item["content"])
        elif kind == "image" and isinstance(item.get("data_url"), str):
            texts.append("<image>")
        else:
            raise invalid('Invalid item in "input"', code="invalid_union", param="input")
    return "\n".join(texts)
