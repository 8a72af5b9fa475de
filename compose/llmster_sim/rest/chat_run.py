"""Run one v1 chat to its end: load, predict, call tools, predict again, and tell each step as an event.

Event shapes follow the official docs page on streaming events; it writes to no socket.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from llmster_sim import errors
from llmster_sim.engine.jobs import Failed, Finished, JobEvent, Piece, PromptProgress
from llmster_sim.engine.loading import Loaded, LoadEvent, LoadFailed, Progress, Resolved
from llmster_sim.engine.requests import chat_ask
from llmster_sim.models.generation import tokenize
from llmster_sim.models.load_config import CONTEXT
from llmster_sim.models.prompts import Message, continue_prompt
from llmster_sim.rest.targets import work_failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmster_sim.engine.daemon import Daemon, ToolFailure
    from llmster_sim.engine.instances import Instance
    from llmster_sim.engine.jobs import Ask, Job, Stats
    from llmster_sim.engine.requests import Tool
    from llmster_sim.models.catalogue import Model
    from llmster_sim.models.generation import ToolCall
    from llmster_sim.rest.integrations import Integration

# How long a made-up tool takes. Assumed.
_TOOL_S = 0.4


def _nothing() -> None:
    """Give nothing up: no tool is being called."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """A stored chat: the prompt of its last prediction and what was answered."""

    prompt: str
    output: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A checked request."""

    target: str
    model: Model
    text: str
    system: str | None
    integrations: tuple[Integration, ...]
    thinking: bool
    max_tokens: int | None
    context_length: int | None
    store: bool
    former: Remembered | None
    tool_rounds: int = 1
    """How often the model calls a tool before it answers."""


class ChatRun:
    """One run. `emit` gets every event; the last is always `chat.end`."""

    def __init__(
        self,
        *,
        daemon: Daemon,
        chat: ChatRequest,
        emit: Callable[[dict[str, Any]], None],
        remember: Callable[[Remembered], str],
    ) -> None:
        self._daemon = daemon
        self._chat = chat
        self._emit = emit
        self._remember = remember
        self._instance: Instance | None = None
        self._job: Job | None = None
        self._ended = False
        self._output: list[dict[str, Any]] = []
        self._stats: list[tuple[Stats, int]] = []
        self._load_s: float | None = None
        self._prompt = ""
        self._processing = False
        self._rounds_left = chat.tool_rounds - 1
        self._give_up: Callable[[], object] = _nothing

    def start(self) -> None:
        """Begin; events may come at once."""
        chat = self._chat
        self._emit({"type": "chat.start", "model_instance_id": chat.target})
        overrides = {CONTEXT: chat.context_length} if chat.context_length is not None else {}
        self._daemon.get_or_load(chat.target, domain="llm", overrides=overrides, notify=self._on_load)

    def cancel(self) -> None:
        """Stop what still runs: the client went away."""
        if self._ended:
            return
        self._ended = True
        self._give_up()
        if self._job is not None and self._instance is not None:
            self._instance.queue.cancel(self._job)

    def _on_load(self, event: LoadEvent) -> None:
        if self._ended:
            return
        name = {"model_instance_id": self._chat.target}
        match event:
            case Resolved():
                self._emit({"type": "model_load.start", **name})
            case Progress(share=share):
                self._emit({"type": "model_load.progress", **name, "progress": share})
            case Loaded(instance=instance, load_s=load_s):
                if load_s:
                    self._load_s = load_s
                    self._emit({"type": "model_load.end", **name, "load_time_seconds": load_s})
                self._instance = instance
                self._first(instance)
            case LoadFailed(error=error):
                self._fail(error)
            case _:
                return

    def _first(self, instance: Instance) -> None:
        chat = self._chat
        messages = [Message(role="user", text=chat.text)]
        if chat.system is not None and chat.former is None:
            messages.insert(0, Message(role="system", text=chat.system))
        self._daemon.server_line(
            level="info",
            scope=instance.identifier,
            text=f"Running chat completion on conversation with {len(messages)} messages.",
        )
        ask = chat_ask(
            model=chat.model,
            messages=messages,
            route="/api/v1/chat",
            tools=self._tools,
            thinking=chat.thinking,
            max_tokens=chat.max_tokens,
            stream=True,
        )
        if chat.former is not None:
            prompt = continue_prompt(
                family=chat.model.family,
                prompt=chat.former.prompt,
                output=chat.former.output,
                messages=messages,
            )
            ask = dataclasses.replace(ask, prompt=prompt, prompt_tokens=len(tokenize(prompt)))
        self._predict(instance, ask)

    @property
    def _tools(self) -> list[Tool]:
        return [tool for integration in self._chat.integrations for tool in integration.tools]

    def _predict(self, instance: Instance, ask: Ask) -> None:
        self._prompt = ask.prompt
        self._processing = True
        self._emit({"type": "prompt_processing.start"})
        # Events of this very submit come before the job is known; nothing in them needs it.
        self._job = self._daemon.submit(instance, ask=ask, notify=self._on_job)

    def _on_job(self, event: JobEvent) -> None:
        if self._ended:
            return
        match event:
            case PromptProgress():
                self._emit({"type": "prompt_processing.progress", "progress": event.share})
                if event.share >= 1 and self._processing:
                    self._processing = False
                    self._emit({"type": "prompt_processing.end"})
                    if self._chat.model.family == "harmony":
                        # Published: it comes twice on gpt-oss.
                        self._emit({"type": "prompt_processing.end"})
            case Piece():
                self._on_piece(event)
            case Finished():
                self._on_finished(event)
            case Failed(error=error):
                self._fail(error)

    def _on_piece(self, piece: Piece) -> None:
        kind = piece.segment.kind
        if kind not in {"reasoning", "message"}:
            return
        if piece.first:
            self._emit({"type": f"{kind}.start"})
            self._output.append({"type": kind, "content": ""})
        self._output[-1]["content"] += piece.text
        self._emit({"type": f"{kind}.delta", "content": piece.text})
        if piece.last:
            self._emit({"type": f"{kind}.end"})

    def _on_finished(self, event: Finished) -> None:
        self._stats.append((event.stats, event.generation.count("reasoning")))
        calls = event.generation.calls
        if not calls or event.stats.stop_reason != "toolCalls":
            self._end(event.generation.text)
            return
        call = calls[0]
        integration = next(
            (i for i in self._chat.integrations if call.name in {tool.name for tool in i.tools}), None
        )
        info = integration.info if integration is not None else {}
        output = event.generation.text
        failure, self._daemon.next_tool_failure = self._daemon.next_tool_failure, None
        if integration is None or failure is not None:
            self._tool_failed(call, info, output, failure or "invalid_name")
            return
        self._emit({"type": "tool_call.start", "tool": call.name, "provider_info": info})
        self._emit(
            {
                "type": "tool_call.arguments",
                "tool": call.name,
                "arguments": call.arguments,
                "provider_info": info,
            }
        )
        clock = self._daemon.clock

        def answered(result: str, after_s: float = 0.0) -> None:
            clock.call_later(after_s, lambda: self._tool_succeeded(call, info, output, result))

        if integration.server is None:
            found = [{"type": "text", "text": f"{call.name} found 3 entries"}]
            answered(json.dumps(found, separators=(",", ":")), _TOOL_S)
        else:
            self._give_up = integration.server.call(call.name, call.arguments, answered)

    def _tool_succeeded(self, call: ToolCall, info: dict[str, Any], former_output: str, result: str) -> None:
        """Tell of a result. Assumed: an error that the tool itself reports is one too; the docs know no other word."""
        if self._ended:
            return
        done = {"tool": call.name, "arguments": call.arguments, "output": result, "provider_info": info}
        self._emit({"type": "tool_call.success", **done})
        self._output.append({"type": "tool_call", **done})
        self._go_on(result, former_output)

    def _tool_failed(
        self, call: ToolCall, info: dict[str, Any], former_output: str, failure: ToolFailure
    ) -> None:
        metadata: dict[str, Any] = {"type": failure, "tool_name": call.name}
        if failure == "invalid_name":
            reason = f"Cannot find tool with name {call.name}."
        else:
            reason = f"Invalid arguments for tool {call.name}."  # Assumed: only the other one is documented.
            metadata |= {"arguments": call.arguments, "provider_info": info}
        self._emit({"type": "tool_call.failure", "reason": reason, "metadata": metadata})
        self._output.append({"type": "invalid_tool_call", "reason": reason, "metadata": metadata})
        self._go_on(reason, former_output)

    def _go_on(self, result: str, former_output: str) -> None:
        if self._instance is None:
            return
        if self._instance.gone:
            self._fail(errors.already_unloaded())
            return
        chat = self._chat
        answer = Message(role="tool", text=result)
        again = self._rounds_left > 0
        self._rounds_left -= 1
        # To call again, the pretend model wants to be asked by a user.
        last = dataclasses.replace(answer, role="user") if again else answer
        ask = chat_ask(
            model=chat.model,
            messages=[Message(role="user", text=chat.text), last],
            route="/api/v1/chat",
            tools=self._tools if again else (),
            thinking=chat.thinking,
            max_tokens=chat.max_tokens,
            stream=True,
        )
        prompt = continue_prompt(
            family=chat.model.family, prompt=self._prompt, output=former_output, messages=[answer]
        )
        self._predict(
            self._instance, dataclasses.replace(ask, prompt=prompt, prompt_tokens=len(tokenize(prompt)))
        )

    def _fail(self, error: errors.DaemonError) -> None:
        self._emit({"type": "error", "error": work_failed(error, key=self._chat.target)})
        self._end("")

    def _end(self, last_output: str) -> None:
        self._ended = True
        first = self._stats[0][0] if self._stats else None
        last = self._stats[-1][0] if self._stats else None
        stats: dict[str, Any] = {
            "input_tokens": last.prompt_tokens if last else 0,
            "total_output_tokens": sum(one.predicted_tokens for one, _ in self._stats),
            "reasoning_output_tokens": sum(reasoning for _, reasoning in self._stats),
            "tokens_per_second": (last.tokens_per_second if last else None) or 0,
            "time_to_first_token_seconds": round(first.first_token_s or 0, 3) if first else 0,
        }
        if self._load_s is not None:
            stats["model_load_time_seconds"] = self._load_s
        result: dict[str, Any] = {
            "model_instance_id": self._instance.identifier if self._instance else self._chat.target,
            "output": self._output,
            "stats": stats,
        }
        if self._chat.store:
            result["response_id"] = self._remember(Remembered(prompt=self._prompt, output=last_output))
        self._emit({"type": "chat.end", "result": result})
