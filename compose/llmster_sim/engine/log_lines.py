"""Tell the log what happens to the jobs of one instance, in the order a real engine and server would.

Formats jobs as lines; changes no state.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llmster_sim.engine import log_events

if TYPE_CHECKING:
    from llmster_sim.engine.jobs import Job, Stats
    from llmster_sim.engine.ports import Desk, Served
    from llmster_sim.models.generation import Generation


class LogLines:
    """The log lines of one instance."""

    def __init__(self, *, desk: Desk, instance: Served) -> None:
        self._desk = desk
        self._instance = instance
        self._engine = instance.model.engine

    def deferred(self, job: Job) -> None:
        """Tell that every slot is busy, so that the job waits."""
        self._engine_line(log_events.task_deferred(task=job.number))

    def dropped(self, job: Job) -> None:
        """Tell that a waiting job is no longer wanted."""
        self._engine_line(log_events.task_cancelled(task=job.number))

    def started(self, job: Job) -> None:
        """Tell that a slot took the job; on MLX the input event marks this moment."""
        if self._engine.prompt_at_start and self._desk.logs_prompts:
            self._input(job)
        self._engine_line(log_events.slot_launched(slot=job.slot, task=job.number))
        uncached = job.ask.prompt_tokens - job.cached_tokens
        self._engine_line(log_events.cache_restored(cached=job.cached_tokens, uncached=uncached))

    def prefilled(self, job: Job, *, share: float, processed: int) -> None:
        """Another batch of the prompt is done."""
        self._engine_line(
            log_events.prompt_progress(
                slot=job.slot,
                task=job.number,
                tokens=job.cached_tokens + processed,
                share=share,
                elapsed_s=self._desk.clock.now_s - job.started_s,
            )
        )
        self._server_line(f"Prompt processing progress: {share * 100:.1f}%")

    def decoding(self, job: Job, *, written: int) -> None:
        """Tell that some seconds of decoding went by."""
        if self._engine.wording is not None:
            self._engine_line(
                log_events.decode_progress(
                    wording=self._engine.wording,
                    slot=job.slot,
                    task=job.number,
                    tokens=written,
                    tps=job.decode_tps,
                    recent_tps=job.decode_tps,
                )
            )

    def disconnected(self) -> None:
        """Tell that the client of a job went away (published wording, without a scope)."""
        text = (
            "[LM STUDIO SERVER] Client disconnected. Stopping generation..."
            " (If the model is busy processing the prompt, it will finish first.)"
        )
        self._desk.log(log_events.server(at_ms=self._desk.clock.now_ms, level="info", text=text))

    def finished(self, job: Job, *, generation: Generation, stats: Stats, decode_s: float) -> None:
        """Tell that the job left its slot with output."""
        self._engine_line(
            log_events.timing(
                slot=job.slot,
                task=job.number,
                prompt=stats.prompt_tokens - job.cached_tokens,
                prompt_s=job.first_token_s,
                predicted=stats.predicted_tokens,
                decode_s=decode_s,
            )
        )
        if stats.draft_total:
            self._engine_line(
                log_events.draft_acceptance(accepted=stats.draft_accepted, total=stats.draft_total)
            )
        self._engine_line(log_events.slot_released(slot=job.slot, task=job.number))
        self.output(job, generation, stats)
        if job.ask.stream:
            self._server_line("Finished streaming response")
        elif job.ask.route is not None:
            # Published: this INFO line carries the whole answer, so readers must redact it.
            self._server_line(f"Generated prediction:  {json.dumps({'content': generation.text}, indent=2)}")

    def idle(self) -> None:
        """No slot is busy any more."""
        self._engine_line(log_events.ALL_SLOTS_IDLE)

    def output(self, job: Job, generation: Generation, stats: Stats) -> None:
        """Publish what a job wrote, and first what it was asked where that is told at the end."""
        if not self._desk.logs_prompts:
            return
        if not self._engine.prompt_at_start:
            self._input(job)
        kept = stats if self._desk.keeps_stats(job.number) else None
        event = log_events.prediction_output(
            at_ms=self._desk.clock.now_ms,
            output=generation.text,
            identifier=self._instance.identifier,
            stats=kept.to_wire() if kept else None,
        )
        self._desk.totals.add_logged(kept)
        # From a callback of its own, so that jobs ending together interleave in the stream, as published.
        self._desk.clock.call_later(0, lambda: self._desk.log(event))

    def _input(self, job: Job) -> None:
        self._desk.log(
            log_events.prediction_input(
                at_ms=self._desk.clock.now_ms,
                prompt=job.ask.prompt,
                path=self._instance.model.path,
                identifier=self._instance.identifier,
            )
        )

    def _engine_line(self, text: str) -> None:
        self._desk.engine_line(instance=self._instance, text=text)

    def _server_line(self, text: str) -> None:
        at_ms = self._desk.clock.now_ms
        self._desk.log(
            log_events.server(at_ms=at_ms, level="info", text=text, scope=self._instance.identifier)
        )
