"""Follows one slot of an engine, line by line, and shows what is true of it at a time.

Does not decide which lines are believed. A rate or progress that is older than what it speaks of is not shown.
"""

from __future__ import annotations

from typing import Final

import msgspec

from exporter.pipeline.log_formats.engine import EngineLine, What

RATE_WINDOW_MS: Final = 3_000
"""The engine's rates are means of the last three seconds: one that is older says nothing of now."""
_MIN_PROGRESS_MS: Final = 3_000
_MAX_PROGRESS_MS: Final = 30_000
"""Progress is told before each batch of a prompt, so it is true for about as long as the last batch took."""


class Slot(msgspec.Struct, frozen=True, gc=False):
    """What one slot does. None: not told, or told too long ago."""

    busy: bool
    task: int
    """The current task, or the last one; -1 before the first."""
    prompt_progress: float | None = None
    """0 to 1."""
    tokens_per_second: float | None = None
    prefill_tokens_per_second: float | None = None
    context_tokens: int | None = None
    """Tokens in the slot's context."""
    progress_ms: int = 0
    """When it last made progress: launched, advanced in its prompt, generated, released."""


class Finished(msgspec.Struct, frozen=True, gc=False):
    """What a release says of its request."""

    truncated: bool
    cached: int | None
    processed: int | None
    """Prompt tokens taken from the cache, and evaluated."""


class SlotState(msgspec.Struct):
    """One slot, as far as its engine told."""

    busy: bool = False
    task: int = -1
    progress: float | None = None
    progress_until_ms: int = 0
    prefill_rate: float | None = None
    rate: float | None = None
    rate_at_ms: int = 0
    context_tokens: int | None = None
    prompt_tokens: int | None = None
    processed_tokens: int | None = None
    generated_tokens: int | None = None
    changed_ms: int = 0
    prompt_at_ms: int = 0

    def take(self, line: EngineLine, now_ms: int) -> None:
        """Take in a line about the running task."""
        values = line.values
        what = line.what
        if what is What.DECODE:
            tokens, mean, recent = values
            self.rate, self.rate_at_ms = float(recent or mean or 0), now_ms
            self.progress, self.progress_until_ms = (
                1.0,
                now_ms + RATE_WINDOW_MS,
            )  # it generates: the prompt is done
            self.prefill_rate = None
            known = self.prompt_tokens
            self.context_tokens = None if known is None else known + int(tokens or 0)
        elif what is What.PROMPT:
            self._advance(values, now_ms)
        elif what is What.PROMPT_DONE:
            self.processed_tokens = int(values[1] or 0)
        elif what is What.DECODE_DONE:
            self.generated_tokens = int(values[1] or 0)
        elif what is What.PROMPT_SIZE:
            self.prompt_tokens = int(values[1] or 0)

    def free(self, now_ms: int) -> None:
        """End the task."""
        self.busy = False
        self.progress = self.rate = self.prefill_rate = self.context_tokens = None
        self.changed_ms = max(self.changed_ms, now_ms)

    def finish(self, line: EngineLine) -> Finished | None:
        """Read what the release of the task says; None if it says nothing, or said it before."""
        if not line.values or self.context_tokens is not None:
            return None
        tokens, truncated = int(line.values[0] or 0), line.values[1] == "1"
        self.context_tokens = tokens
        prompt = self.prompt_tokens
        if prompt is None and self.generated_tokens is not None and not truncated:
            prompt = tokens - max(
                0, self.generated_tokens - 1
            )  # the last token generated is not in the context yet
        processed = self.processed_tokens
        cached = (
            prompt - processed
            if prompt is not None and processed is not None and prompt >= processed
            else None
        )
        return Finished(truncated, cached, processed)

    def seen(self, now_ms: int) -> Slot:
        """Return what is true at a time."""
        in_prompt = self.progress_until_ms >= now_ms
        return Slot(
            self.busy,
            self.task,
            prompt_progress=self.progress if in_prompt else None,
            tokens_per_second=self.rate if now_ms - self.rate_at_ms <= RATE_WINDOW_MS else None,
            prefill_tokens_per_second=self.prefill_rate if in_prompt else None,
            context_tokens=self.context_tokens,
            progress_ms=self.changed_ms,
        )

    def _advance(self, values: tuple[str | None, ...], now_ms: int) -> None:
        tokens, progress, *rate = values
        batch_ms = now_ms - self.prompt_at_ms
        self.prompt_at_ms = now_ms
        self.progress = min(1.0, float(progress or 0))
        self.progress_until_ms = now_ms + min(max(3 * batch_ms // 2, _MIN_PROGRESS_MS), _MAX_PROGRESS_MS)
        self.prefill_rate = float(rate[0]) if rate and rate[0] else None
        self.context_tokens = int(tokens or 0)
