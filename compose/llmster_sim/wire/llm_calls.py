"""Serve what only /llm has: predictions over a channel, raw completion, prompt templates.

The engine makes the model's output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmster_sim import errors
from llmster_sim.engine.instances import instance_info
from llmster_sim.engine.jobs import Failed, Finished, JobEvent, Piece, PromptProgress
from llmster_sim.engine.requests import Tool, chat_ask, text_ask
from llmster_sim.models.load_config import overrides_of
from llmster_sim.models.prompts import Message, format_messages
from llmster_sim.wire.envelopes import Call, Channel, Rpc, Stream
from llmster_sim.wire.model_calls import config_fields
from llmster_sim.wire.schema import (
    ABSENT,
    CONFIG_STACK,
    HISTORY,
    SPECIFIER,
    boolean,
    optional,
    record,
    string,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmster_sim.engine.daemon import Daemon
    from llmster_sim.engine.instances import Instance
    from llmster_sim.engine.jobs import Ask
    from llmster_sim.wire.model_calls import ModelEndpoints

_MAX_TOKENS = "llm.prediction.maxPredictedTokens"
_TOOLS = "llm.prediction.tools"
_DRAFT = "llm.prediction.speculativeDecoding.draftModel"


class LlmEndpoints:
    """The endpoints of /llm beyond the shared ones."""

    def __init__(self, *, daemon: Daemon, shared: ModelEndpoints) -> None:
        self._daemon = daemon
        self._shared = shared

    def rpcs(self) -> dict[str, Rpc]:
        """Endpoints that answer once."""
        return {
            "applyPromptTemplate": Rpc(
                handle=self._apply_template,
                check=record(
                    {"specifier": SPECIFIER, "history": HISTORY, "predictionConfigStack": CONFIG_STACK}
                ),
            ),
            "preloadDraftModel": Rpc(
                handle=self._preload_draft, check=record({"specifier": SPECIFIER, "draftModelKey": string})
            ),
        }

    def streams(self) -> dict[str, Stream]:
        """Endpoints that are channels."""
        shared = {
            "modelSpecifier": SPECIFIER,
            "predictionConfigStack": CONFIG_STACK,
            "fuzzyPresetIdentifier": optional(string),
            "ignoreServerSessionConfig": optional(boolean),
        }
        return {
            "predict": Stream(
                handle=self._predict, check=record({**shared, "history": HISTORY}), messages=("cancel",)
            ),
            "completeRawText": Stream(
                handle=self._complete, check=record({**shared, "rawPrompt": string}), messages=("cancel",)
            ),
        }

    def _apply_template(self, call: Call) -> None:
        try:
            instance = self._shared.require(call.parameter["specifier"])
        except errors.DaemonError as error:
            call.fail(error)
            return
        messages = history_messages(call.parameter["history"])
        call.resolve({"formatted": format_messages(family=instance.model.family, messages=messages)})

    def _preload_draft(self, call: Call) -> None:
        try:
            self._shared.require(call.parameter["specifier"])
            self._daemon.model(call.parameter["draftModelKey"], domain="llm")
        except errors.DaemonError as error:
            call.fail(error)
        else:
            call.resolve(ABSENT)

    def _predict(self, channel: Channel) -> None:
        options = overrides_of(channel.parameter["predictionConfigStack"])

        def ask(instance: Instance) -> Ask:
            return chat_ask(
                model=instance.model,
                messages=history_messages(channel.parameter["history"]),
                route=None,
                tools=_tools(options.get(_TOOLS)),
                max_tokens=_limit(options.get(_MAX_TOKENS)),
                stream=True,
                draft=bool(options.get(_DRAFT)),
            )

        self._run(channel, options, ask)

    def _complete(self, channel: Channel) -> None:
        options = overrides_of(channel.parameter["predictionConfigStack"])

        def ask(_instance: Instance) -> Ask:
            return text_ask(
                prompt=channel.parameter["rawPrompt"],
                route=None,
                max_tokens=_limit(options.get(_MAX_TOKENS)),
                stream=True,
            )

        self._run(channel, options, ask)

    def _run(self, channel: Channel, options: Mapping[str, Any], make_ask: Callable[[Instance], Ask]) -> None:
        try:
            instance = self._shared.require(channel.parameter["modelSpecifier"])
        except errors.DaemonError as error:
            channel.fail(error)
            return
        ask = make_ask(instance)
        stream = _Predicting(channel=channel, instance=instance, options=options, drafted=ask.draft)
        job = self._daemon.submit(instance, ask=ask, notify=stream.tell)
        channel.on_message = lambda _message: instance.queue.cancel(job)
        channel.on_gone = lambda: instance.queue.cancel(job)


class _Predicting:
    """Turns what happens to one job into the messages of its channel."""

    def __init__(
        self, *, channel: Channel, instance: Instance, options: Mapping[str, Any], drafted: bool
    ) -> None:
        self._channel = channel
        self._instance = instance
        self._options = options
        self._drafted = drafted

    def tell(self, event: JobEvent) -> None:
        """Send what an event means on the wire."""
        match event:
            case PromptProgress():
                self._channel.send(
                    {
                        "type": "promptProcessingProgress",
                        "progress": event.share,
                        "details": {
                            "cachedTokenCount": event.cached,
                            "totalPromptTokenCount": event.total,
                            "processedPromptTokenCount": event.processed,
                            "unprocessedPromptTokenCount": event.total - event.cached - event.processed,
                        },
                    }
                )
            case Piece():
                self._piece(event)
            case Finished(stats=stats):
                fields = [{"key": key, "value": value} for key, value in self._options.items()]
                self._channel.send(
                    {
                        "type": "success",
                        "stats": stats.to_wire(),
                        "modelInfo": instance_info(self._instance),
                        "loadModelConfig": config_fields(self._instance),
                        "predictionConfig": {"fields": fields},
                    }
                )
                self._channel.close()
            case Failed(error=error):
                self._channel.fail(error)

    def _piece(self, piece: Piece) -> None:
        segment, call = piece.segment, piece.segment.call
        if segment.kind == "call_tag" or (segment.kind == "tag" and segment.edge is None):
            # Assumed: the daemon keeps tags that belong to no fragment type to itself.
            return
        if call is not None:
            if piece.first:
                self._channel.send({"type": "toolCallGenerationStart", "toolCallId": call.call_id})
                self._channel.send({"type": "toolCallGenerationNameReceived", "name": call.name})
            self._channel.send({"type": "toolCallGenerationArgumentFragmentGenerated", "content": piece.text})
            if piece.last:
                request = {
                    "id": call.call_id,
                    "type": "function",
                    "arguments": call.arguments,
                    "name": call.name,
                }
                self._channel.send(
                    {
                        "type": "toolCallGenerationEnd",
                        "toolCallRequest": request,
                        "rawContent": segment.text,
                    }
                )
            return
        self._channel.send(
            {
                "type": "fragment",
                "fragment": {
                    "content": piece.text,
                    "tokensCount": len(piece.tokens),
                    "containsDrafted": self._drafted,
                    "reasoningType": _reasoning_type(piece),
                    "isStructural": segment.kind == "tag",
                },
            }
        )


def _reasoning_type(piece: Piece) -> str:
    if piece.segment.kind == "reasoning":
        return "reasoning"
    match piece.segment.edge:
        case "start":
            return "reasoningStartTag"
        case "end":
            return "reasoningEndTag"
        case None:
            return "none"


def _limit(value: Any) -> int | None:
    if isinstance(value, dict):
        value = value.get("value") if value.get("checked") else None
    return value if isinstance(value, int) else None


def _tools(setting: Any) -> list[Tool]:
    """Give the functions of an `LLMToolUseSetting` of type toolArray."""
    if not isinstance(setting, dict) or setting.get("type") != "toolArray":
        return []
    return [
        Tool(name=tool["function"]["name"], parameters=tool["function"].get("parameters") or {})
        for tool in setting.get("tools", ())
        if tool.get("type") == "function"
    ]


def history_messages(history: Mapping[str, Any]) -> list[Message]:
    """Flatten `ChatHistoryData` to text."""
    return [
        Message(role=message["role"], text="".join(_part_text(part) for part in message["content"]))
        for message in history["messages"]
    ]


def _part_text(part: Mapping[str, Any]) -> str:
    match part.get("type"):
        case "text":
            return str(part.get("text", ""))
        case "toolCallResult":
            return str(part.get("content", ""))
        case "toolCallRequest":
            return str(part.get("toolCallRequest", {}).get("name", ""))
        case _:
            return ""
