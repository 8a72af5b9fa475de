"""Keeps the latest predictions of one daemon for the live view. A sink; bounded; keeps counts and times, no content."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from exporter.llmster.events import RuntimeLog, ServerLog
    from exporter.pipeline.predictions import Prediction

MAX_RECENT: Final = 50


@dataclass(frozen=True, slots=True)
class Finished:
    """One finished prediction. Seconds and tokens; None where the daemon did not say."""

    model: str
    client: str | None
    """As a tap names it."""
    finished_reason: str
    end_ns: int
    time_to_first_token_s: float | None
    duration_s: float | None
    tokens_per_second: float | None
    prompt_tokens: int | None
    output_tokens: int | None
    reasoning_ratio: float | None
    """Reasoning tokens, estimated unless a tap saw them, over output tokens."""


class RecentPredictions:
    """The last MAX_RECENT predictions, newest first."""

    name = "recent"

    def __init__(self, model_key: Callable[[str], str]) -> None:
        """`model_key` maps an instance identifier to the model's key."""
        self._model_key = model_key
        self._kept: deque[Finished] = deque(maxlen=MAX_RECENT)

    @property
    def finished(self) -> Sequence[Finished]:
        """What is kept, newest first."""
        return tuple(self._kept)

    def take_prediction(self, prediction: Prediction) -> None:
        """Keep one."""
        reasoning, output = prediction.reasoning_tokens_estimated, prediction.predicted_tokens
        self._kept.appendleft(
            Finished(
                model=self._model_key(prediction.model),
                client=prediction.client,
                finished_reason=prediction.finished_reason.value,
                end_ns=prediction.end_ns,
                time_to_first_token_s=prediction.time_to_first_token_s,
                duration_s=prediction.duration_s,
                tokens_per_second=prediction.tokens_per_second,
                prompt_tokens=prediction.prompt_tokens,
                output_tokens=output,
                reasoning_ratio=reasoning / output if reasoning is not None and output else None,
            )
        )

    def take_log(self, _event: ServerLog | RuntimeLog) -> None:
        """Ignore log lines."""
