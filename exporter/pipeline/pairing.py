"""Finds the prompt that belongs to an output; the log stream does not connect them.

Uses only time and size of what is paired; holds it for a bounded time, in a bounded number.

There is no request id, and with parallel predictions inputs and outputs interleave. What there is:
- the model, which must agree;
- the time. Observed: on MLX the input is logged as the prediction starts, on llama.cpp together with its output.
  Which of the two a model does is learnt: whether its outputs find an input logged in the same instant;
- the length of the prompt against the daemon's count of its tokens, with the characters per token learnt
  from outputs that had one candidate only.
"""

from __future__ import annotations

import math
from typing import Generic, TypeVar

import msgspec

_MAX_PER_MODEL = 256
_MAX_MODELS = 256
_MAX_AGE_MS = 6 * 3_600_000  # no prediction we know of ran longer
_TOGETHER_MS = 5  # an input this close to its output was logged with it
_VOTES = 4
_CHARS_PER_TOKEN = 4.0  # Assumed, until learnt: English prose with the usual tokenizers
_LEARNING_RATE = 0.2
_MAX_CHARS_PER_TOKEN = 16  # more, and the prompt is another one; fewer is normal, images are tokens too
_LATE_S = 1.0  # clocks of one daemon, so an input long after the output is not its own
_TOKEN_WEIGHT = 2.0

T = TypeVar("T")


class Waiting(msgspec.Struct, Generic[T]):
    """An input without its output yet."""

    timestamp_ms: int
    characters: int
    value: T


class _Model(msgspec.Struct, Generic[T]):
    waiting: list[Waiting[T]]
    logs_at_end: int = 0  # votes: above 0 inputs come with their outputs, below 0 at the start
    characters_per_token: float = _CHARS_PER_TOKEN


class Pairing(Generic[T]):
    """Inputs waiting for their outputs."""

    def __init__(self) -> None:
        self._models: dict[str, _Model[T]] = {}
        self.outputs_missed = 0
        """Outputs for which no input was found."""
        self.inputs_missed = 0
        """Inputs given up: too old, or too many."""

    def __len__(self) -> int:
        return sum(len(model.waiting) for model in self._models.values())

    def waited_for(self) -> set[str]:
        """Return the models that inputs wait for."""
        return {name for name, model in self._models.items() if model.waiting}

    def put(self, model: str, timestamp_ms: int, characters: int, value: T) -> list[T]:
        """Let an input wait; return those given up for it."""
        state = self._models.get(model)
        given_up: list[T] = []
        if state is None:
            given_up = self.forget(next(iter(self._models))) if len(self._models) >= _MAX_MODELS else []
            state = self._models[model] = _Model([])
        waiting = state.waiting
        waiting.append(Waiting(timestamp_ms, characters, value))
        while len(waiting) > _MAX_PER_MODEL or waiting[0].timestamp_ms < timestamp_ms - _MAX_AGE_MS:
            given_up.append(waiting.pop(0).value)
            self.inputs_missed += 1
        return given_up

    def take(self, model: str, end_ms: int, duration_s: float | None, prompt_tokens: int | None) -> T | None:
        """Return the input of the output logged at `end_ms`, which took `duration_s`; None counts as a miss."""
        state = self._models.get(model) or _Model[T]([])
        candidates = [
            (cost, index)
            for index, waiting in enumerate(state.waiting)
            if (cost := _cost(state, waiting, end_ms, duration_s, prompt_tokens)) is not None
        ]
        if not candidates:
            self.outputs_missed += 1
            return None
        if duration_s is not None and duration_s * 1000 > 10 * _TOGETHER_MS:
            together = any(abs(end_ms - waiting.timestamp_ms) <= _TOGETHER_MS for waiting in state.waiting)
            state.logs_at_end = max(-_VOTES, min(_VOTES, state.logs_at_end + (1 if together else -1)))
        chosen = state.waiting.pop(min(candidates)[1])
        if len(candidates) == 1 and prompt_tokens and chosen.characters:
            ratio = min(max(chosen.characters / prompt_tokens, 0.5), float(_MAX_CHARS_PER_TOKEN))
            state.characters_per_token += _LEARNING_RATE * (ratio - state.characters_per_token)
        return chosen.value

    def forget(self, model: str) -> list[T]:
        """Give up, and return, what waits for a model that is gone."""
        state = self._models.pop(model, None)
        waiting = state.waiting if state else []
        self.inputs_missed += len(waiting)
        return [one.value for one in waiting]


def _cost(
    state: _Model[T],
    waiting: Waiting[T],
    end_ms: int,
    duration_s: float | None,
    prompt_tokens: int | None,
) -> float | None:
    """How badly an input fits an output; None when it cannot be its own."""
    before_s = (end_ms - waiting.timestamp_ms) / 1000
    if before_s < -_LATE_S or before_s * 1000 > _MAX_AGE_MS:
        return None
    cost = 0.0
    if prompt_tokens and waiting.characters:
        if waiting.characters > _MAX_CHARS_PER_TOKEN * (prompt_tokens + 32):
            return None
        expected = waiting.characters / state.characters_per_token
        cost += _TOKEN_WEIGHT * abs(math.log(expected / prompt_tokens))
    took_s = duration_s or 0.0
    tolerance_s = 0.05 + 0.05 * took_s
    at_end = abs(before_s)
    at_start = abs(before_s - took_s) if before_s >= took_s else 3 * (took_s - before_s)
    if duration_s is None:
        at_start = 0.0  # any earlier moment may be the start
    if state.logs_at_end == 0:
        return cost + min(at_end, at_start) / tolerance_s
    return cost + (at_end if state.logs_at_end > 0 else at_start) / tolerance_s
