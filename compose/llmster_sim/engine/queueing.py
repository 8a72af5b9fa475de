"""Run asks on one instance: slots and queue, prefill and decode rates, and the log lines of both.

One instance only; loading, unloading and requesters are elsewhere.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Literal

from llmster_sim.engine.jobs import Ask, Failed, Finished, Job, JobEvent, Piece, PromptProgress, Stats, ignore
from llmster_sim.engine.log_lines import LogLines
from llmster_sim.errors import already_unloaded

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmster_sim.engine.jobs import StopReason
    from llmster_sim.engine.ports import Desk, Served
    from llmster_sim.errors import DaemonError
    from llmster_sim.models.generation import Generation

Status = Literal["idle", "processingPrompt", "generating", "computingEmbedding"]

# Fixed cost before the first token: tokenizing, sampling, one graph launch. Assumed from 18..60 ms published.
_SETUP_S = 0.018
# How much each further running prediction slows all of them. Assumed: batching is cheap, not free.
_PREFILL_SHARE = 0.45
_DECODE_SHARE = 0.18
# llama-server prints a progress line per slot about this often (its own tg_3s says so).
_PROGRESS_EVERY_S = 3.0
_FRAGMENT_S = 0.1
_PROGRESS_STEPS = 6
# Speculative decoding: drafted tokens per kept one, and the gain in speed. Assumed from 0.83 acceptance.
_DRAFTS_PER_TOKEN = 0.8
_DRAFT_GAIN = 1.5


class Queue:
    """The jobs of one instance: at most `parallel` running, the rest waiting in order.

    `used` is called when a job comes or leaves: the idle time of the instance starts over.
    """

    def __init__(self, *, desk: Desk, instance: Served, used: Callable[[], None]) -> None:
        self._desk = desk
        self._used = used
        self._instance = instance
        self._model = instance.model
        self._log_lines = LogLines(desk=desk, instance=instance)
        self.running: dict[int, Job] = {}
        self.waiting: deque[Job] = deque()
        self.stalled = False
        self._cache: deque[tuple[str, int]] = deque(maxlen=4)

    @property
    def status(self) -> Status:
        """What getInstanceProcessingState calls the state of the instance."""
        jobs = self.running.values()
        if any(job.ask.embedding for job in jobs):
            return "computingEmbedding"
        if any(job.phase == "decode" for job in jobs):
            return "generating"
        return "processingPrompt" if self.running else "idle"

    @property
    def queued(self) -> int:
        """Waiting and running together, as the daemon counts."""
        return len(self.running) + len(self.waiting)

    def submit(self, *, ask: Ask, notify: Callable[[JobEvent], None] = ignore) -> Job:
        """Queue an ask; it starts at once when a slot is free."""
        job = Job(number=self._desk.next_task(), ask=ask, notify=notify)
        self.waiting.append(job)
        self._used()
        self._fill()
        if job.phase == "waiting" and not ask.embedding:
            self._log_lines.deferred(job)
        return job

    def cancel(self, job: Job) -> None:
        """Stop a job for its user: a running one still leaves what it wrote so far."""
        if not self._desk.serving:
            return
        if job.phase == "waiting":
            self.waiting.remove(job)
            job.phase = "done"
            if not job.ask.embedding:
                self._log_lines.dropped(job)
        elif job.phase != "done" and job.ask.embedding:  # half a vector is none
            self._leave(job)
            self._fill()
        elif job.phase != "done":
            self._log_lines.disconnected()
            self._finish(job, "userStopped")

    def close(self) -> None:
        """End everything because the instance is being unloaded: partial output is kept, half a vector is none."""
        embedding = [job for job in self.running.values() if job.ask.embedding]
        for job in [*self.waiting, *embedding]:
            self._desk.totals.failed += not job.ask.embedding
            self._leave(job)
            job.notify(Failed(error=already_unloaded()))
        self.waiting.clear()
        for job in list(self.running.values()):
            self._finish(job, "modelUnloaded")

    def break_off(self, error: DaemonError, *, logs: bool) -> None:
        """End everything because the engine died, or with it the daemon, which then logs nothing.

        Assumed: of an engine that died, what was written by then is logged, with reason `failed`.
        """
        for job in [*self.running.values(), *self.waiting]:
            job.stop_timers()
            if logs and self._written(job) and not job.ask.embedding:
                self._log_failed(job)
            job.phase = "done"
            self._desk.totals.failed += not job.ask.embedding
            job.notify(Failed(error=error))
        self.running.clear()
        self.waiting.clear()
        self._desk.show_load()

    def stall(self) -> None:
        """Stop all progress: what runs stays `generating` until the instance goes."""
        self.stalled = True
        for job in self.running.values():
            job.stop_timers()
            job.halted_s = self._desk.clock.now_s
            job.phase = "decode"

    def _fill(self) -> None:
        while self.waiting and len(self.running) < self._instance.config.parallel:
            self._start(self.waiting.popleft())

    def _start(self, job: Job) -> None:
        desk, ask = self._desk, job.ask
        job.slot = min(set(range(self._instance.config.parallel)) - self.running.keys())
        self.running[job.slot] = job
        job.phase = "prefill"
        job.started_s = desk.clock.now_s
        job.cached_tokens = self._cached(ask)
        desk.show_load()
        if not ask.embedding:
            self._log_lines.started(job)
            job.notify(PromptProgress(processed=0, cached=job.cached_tokens, total=ask.prompt_tokens))
        if self.stalled:
            job.phase = "decode"
            job.halted_s = job.started_s
            return
        slowing = 1 + _PREFILL_SHARE * (len(self.running) - 1)
        rate = self._model.prefill_tps * self._instance.speed / slowing
        todo = max(0, ask.prompt_tokens - job.cached_tokens)
        ttft_s = _SETUP_S + todo / rate
        job.first_token_s = ttft_s
        if not ask.embedding:
            steps = min(_PROGRESS_STEPS, math.ceil(todo / self._instance.config.eval_batch_size))
            for step in range(1, steps):
                share = step / steps
                job.timers.append(
                    desk.clock.call_later(ttft_s * share, lambda share=share: self._prefill_step(job, share))  # type: ignore[misc]
                )
        job.timers.append(desk.clock.call_later(ttft_s, lambda: self._first_token(job)))

    def _cached(self, ask: Ask) -> int:
        known = max((tokens for text, tokens in self._cache if ask.prompt.startswith(text)), default=0)
        return min(known, ask.prompt_tokens - 1)

    def _prefill_step(self, job: Job, share: float) -> None:
        processed = int((job.ask.prompt_tokens - job.cached_tokens) * share)
        self._log_lines.prefilled(job, share=share, processed=processed)
        job.notify(PromptProgress(processed=processed, cached=job.cached_tokens, total=job.ask.prompt_tokens))

    def _first_token(self, job: Job) -> None:
        ask, desk = job.ask, self._desk
        if ask.embedding:
            self._leave(job)
            desk.totals.embeddings += 1
            job.notify(Finished(generation=ask.generation, stats=self._stats(job, 0.0)))
            self._fill()
            return
        job.phase = "decode"
        job.notify(
            PromptProgress(
                processed=ask.prompt_tokens - job.cached_tokens,
                cached=job.cached_tokens,
                total=ask.prompt_tokens,
            )
        )
        self._limit(job)
        gain = _DRAFT_GAIN if ask.draft else 1.0
        slowing = 1 + _DECODE_SHARE * (len(self.running) - 1)
        job.decode_tps = self._model.decode_tps * self._instance.speed * gain / slowing
        assert job.generation is not None  # noqa: S101 - set by _limit
        count = job.generation.token_count
        decode_s = self._steps(count) / job.decode_tps
        for tick in range(1, int(decode_s / _PROGRESS_EVERY_S) + 1):
            job.timers.append(
                desk.clock.call_later(
                    tick * _PROGRESS_EVERY_S,
                    lambda: self._log_lines.decoding(job, written=self._written(job)),
                )
            )
        if ask.stream:
            self._plan_pieces(job, job.generation)
        job.timers.append(desk.clock.call_later(decode_s, lambda: self._finish(job, job.stop_reason)))

    def _limit(self, job: Job) -> None:
        generation, ask = job.ask.generation, job.ask
        job.stop_reason = "toolCalls" if generation.calls else "eosFound"
        room = self._instance.config.context_length - ask.prompt_tokens
        if ask.max_tokens is not None and 0 <= ask.max_tokens < generation.token_count:
            generation = generation.cut(ask.max_tokens)
            job.stop_reason = "maxPredictedTokensReached"
        if room < generation.token_count:
            generation = generation.cut(max(1, room))
            job.stop_reason = "contextLengthReached"
        job.generation = generation

    def _steps(self, tokens: int) -> int:
        """Decode steps for so many tokens: llama.cpp's first token belongs to the prefill."""
        return max(0, tokens - 1) if self._model.engine.model_format == "GGUF" else tokens

    def _plan_pieces(self, job: Job, generation: Generation) -> None:
        size = max(1, round(job.decode_tps * _FRAGMENT_S))
        done = 0
        for segment in generation.segments:
            length = len(segment.tokens)
            for start in range(0, length, size):
                tokens = segment.tokens[start : start + size]
                done += len(tokens)
                piece = Piece(segment=segment, tokens=tokens, first=start == 0, last=start + size >= length)
                job.timers.append(
                    self._desk.clock.call_later(
                        self._steps(done) / job.decode_tps,
                        lambda piece=piece: job.notify(piece),  # type: ignore[misc]
                    )
                )

    def _written(self, job: Job) -> int:
        """Tokens a job has generated by now."""
        if job.phase != "decode" or job.generation is None:
            return 0
        return min(job.generation.token_count, int(self._decoded_s(job) * job.decode_tps) + 1)

    def _decoded_s(self, job: Job) -> float:
        """Seconds a job has spent decoding by now."""
        if job.phase != "decode" or job.generation is None:
            return 0.0
        until_s = self._desk.clock.now_s if job.halted_s is None else job.halted_s
        return max(0.0, until_s - job.started_s - job.first_token_s)

    def _leave(self, job: Job) -> None:
        job.stop_timers()
        job.phase = "done"
        self.running.pop(job.slot, None)
        self._used()
        self._desk.show_load()

    def _stats(self, job: Job, decode_s: float) -> Stats:
        engine = self._model.engine
        predicted = job.generation.token_count if job.generation else 0
        steps = self._steps(predicted)
        drafted = round(predicted * _DRAFTS_PER_TOKEN) if job.ask.draft else 0
        return Stats(
            stop_reason=job.stop_reason,
            # Observed: tiny outputs have no meaningful rate, and the field is missing then.
            tokens_per_second=steps / decode_s if decode_s > 0 else None,
            gpu_layers=-1 if engine.reports_gpu_layers else None,
            first_token_s=job.first_token_s if predicted or job.ask.embedding else None,
            total_s=decode_s + (job.first_token_s if engine.includes_prefill else 0.0),
            prompt_tokens=job.ask.prompt_tokens,
            predicted_tokens=predicted,
            draft_key=self._model.draft_key if job.ask.draft else None,
            draft_total=drafted,
            draft_accepted=round(drafted * 0.83),
        )

    def _log_failed(self, job: Job) -> None:
        job.generation = (job.generation or job.ask.generation).cut(self._written(job))
        job.stop_reason = "failed"
        stats = self._stats(job, self._decoded_s(job))
        self._desk.totals.add(model_key=self._model.key, generation=job.generation, stats=stats)
        self._log_lines.output(job, job.generation, stats)

    def _finish(self, job: Job, reason: StopReason) -> None:
        desk = self._desk
        decode_s = self._decoded_s(job)
        if reason != job.stop_reason or job.generation is None:
            job.generation = (job.generation or job.ask.generation).cut(self._written(job))
        job.stop_reason = reason
        self._leave(job)
        stats = self._stats(job, decode_s)
        generation = job.generation
        desk.totals.add(model_key=self._model.key, generation=generation, stats=stats)
        self._cache.append((job.ask.prompt + generation.text, stats.prompt_tokens + stats.predicted_tokens))
        self._log_lines.finished(job, generation=generation, stats=stats, decode_s=decode_s)
        job.notify(Finished(generation=generation, stats=stats))
        self._fill()
        if not self.running:
            self._log_lines.idle()
