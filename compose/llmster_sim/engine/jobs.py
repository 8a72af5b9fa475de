"""Describe one piece of work for an instance, and what is told about it while it runs.

Does not depend on queues or clocks: these are the values that queue and listeners exchange.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmster_sim.clock import Timer
    from llmster_sim.errors import DaemonError
    from llmster_sim.models.generation import Generation, Segment

StopReason = Literal[
    "userStopped",
    "modelUnloaded",
    "failed",
    "eosFound",
    "stopStringFound",
    "toolCalls",
    "maxPredictedTokensReached",
    "contextLengthReached",
]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """`LLMPredictionStats`; a field that is None is left out on the wire."""

    stop_reason: StopReason
    tokens_per_second: float | None
    gpu_layers: int | None
    first_token_s: float | None
    total_s: float
    prompt_tokens: int
    predicted_tokens: int
    draft_key: str | None = None
    draft_total: int = 0
    draft_accepted: int = 0

    def to_wire(self) -> dict[str, Any]:
        """Name the fields as the official schema does."""
        wire: dict[str, Any] = {"stopReason": self.stop_reason}
        if self.tokens_per_second is not None:
            wire["tokensPerSecond"] = round(self.tokens_per_second, 6)
        if self.gpu_layers is not None:
            wire["numGpuLayers"] = self.gpu_layers
        if self.first_token_s is not None:
            wire["timeToFirstTokenSec"] = round(self.first_token_s, 6)
        wire["totalTimeSec"] = round(self.total_s, 6)
        wire["promptTokensCount"] = self.prompt_tokens
        wire["predictedTokensCount"] = self.predicted_tokens
        wire["totalTokensCount"] = self.prompt_tokens + self.predicted_tokens
        if self.draft_key is not None:
            wire["usedDraftModelKey"] = self.draft_key
            wire["totalDraftTokensCount"] = self.draft_total
            wire["acceptedDraftTokensCount"] = self.draft_accepted
            wire["rejectedDraftTokensCount"] = self.draft_total - self.draft_accepted
            wire["ignoredDraftTokensCount"] = 0
        return wire


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PromptProgress:
    """Part of the prompt is processed; token counts as `PromptProcessingDetails` names them."""

    processed: int
    cached: int
    total: int

    @property
    def share(self) -> float:
        """0 at the start, 1 when the first token is due."""
        todo = self.total - self.cached
        # A whole number stays one: JavaScript writes 1, not 1.0.
        return 1 if self.processed >= todo else round(self.processed / todo, 4) if self.processed else 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A few tokens of one segment were generated; `first` and `last` mark the segment's ends."""

    segment: Segment
    tokens: tuple[str, ...]
    first: bool
    last: bool

    @property
    def text(self) -> str:
        """The text of these tokens."""
        return "".join(self.tokens)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The job ended with output, complete or cut short."""

    generation: Generation
    stats: Stats


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The job ended with nothing."""

    error: DaemonError


JobEvent = PromptProgress | Piece | Finished | Failed


def ignore(_event: object) -> None:
    """Listen to nothing."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request as it reaches an instance.

    `route` is the HTTP path that server.log names, None for a request over a WebSocket.
    `max_tokens` cuts the output (max tokens asked for); `embedding` asks for a vector, not for text.
    """

    prompt: str
    generation: Generation
    prompt_tokens: int
    messages: int = 1
    route: str | None = "/v1/chat/completions"
    max_tokens: int | None = None
    stream: bool = False
    draft: bool = False
    embedding: bool = False


@dataclasses.dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """One ask in a queue or a slot. Mutable: the queue moves it along."""

    number: int
    ask: Ask
    notify: Callable[[JobEvent], None] = ignore
    phase: Literal["waiting", "prefill", "decode", "done"] = "waiting"
    slot: int = -1
    cached_tokens: int = 0
    started_s: float = 0.0
    first_token_s: float = 0.0
    halted_s: float | None = None
    decode_tps: float = 1.0
    generation: Generation | None = None
    stop_reason: StopReason = "eosFound"
    timers: list[Timer] = dataclasses.field(default_factory=list)

    def stop_timers(self) -> None:
        """Forget everything that was still going to happen."""
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()
