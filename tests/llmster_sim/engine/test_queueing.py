import dataclasses

import pytest

from llmster_sim.clock import Clock
from llmster_sim.engine.daemon import Daemon
from llmster_sim.engine.instances import Instance
from llmster_sim.engine.jobs import Ask, Failed, Finished, JobEvent, Piece, PromptProgress
from llmster_sim.models.load_config import PARALLEL
from llmster_sim.wire.model_calls import embedding_ask
from tests.llmster_sim.conftest import MakeAsk

QWEN = "qwen/qwen3-8b"
MLX = "deepseek/deepseek-r1-0528-qwen3-8b"
OLDER = "google/gemma-3-12b"


def _load(daemon: Daemon, key: str = QWEN, **overrides: int) -> Instance:
    daemon.load(key, overrides=overrides, instant=True)
    return daemon.loaded[-1]


def _run(clock: Clock, daemon: Daemon, instance: Instance, ask: Ask) -> Finished:
    said: list[JobEvent] = []
    daemon.submit(instance, ask=ask, notify=said.append)
    clock.advance(600)
    assert isinstance(said[-1], Finished)
    return said[-1]


def test_instance_goes_from_prompt_to_generation_to_idle(
    clock: Clock, daemon: Daemon, make_ask: MakeAsk
) -> None:
    queue = _load(daemon).queue
    assert (queue.status, queue.queued) == ("idle", 0)
    queue.submit(ask=make_ask(prompt_tokens=3400))
    seen = [queue.status]
    for seconds in (1.1, 600):
        clock.advance(seconds)
        seen.append(queue.status)
    assert seen == ["processingPrompt", "generating", "idle"]
    assert queue.queued == 0


def test_queued_counts_the_running_jobs_too(daemon: Daemon, make_ask: MakeAsk) -> None:
    daemon.load(QWEN, overrides={PARALLEL: 2}, instant=True)
    queue = daemon.loaded[0].queue
    for _ in range(5):
        queue.submit(ask=make_ask())
    assert (queue.queued, len(queue.running), len(queue.waiting)) == (5, 2, 3)


def test_waiting_jobs_start_in_order_as_slots_become_free(
    clock: Clock, daemon: Daemon, make_ask: MakeAsk
) -> None:
    daemon.load(QWEN, overrides={PARALLEL: 1}, instant=True)
    queue, done = daemon.loaded[0].queue, []
    for number in range(3):
        queue.submit(
            ask=make_ask(),
            notify=lambda e, n=number: done.append(n) if isinstance(e, Finished) else None,  # type: ignore[misc]
        )
    clock.advance(600)
    assert done == [0, 1, 2]


def test_embedding_work_has_a_status_of_its_own(clock: Clock, daemon: Daemon) -> None:
    instance = _load(daemon, "text-embedding-nomic-embed-text-v1.5")
    instance.queue.submit(ask=embedding_ask("some text", route=None))
    assert instance.queue.status == "computingEmbedding"
    clock.advance(10)
    assert daemon.totals.embeddings == 1
    assert daemon.totals.predictions == 0


@pytest.mark.parametrize("how", ["cancelled", "unloaded"])
def test_an_embedding_that_is_ended_early_is_no_prediction(clock: Clock, daemon: Daemon, how: str) -> None:
    instance = _load(daemon, "text-embedding-nomic-embed-text-v1.5")
    said: list[JobEvent] = []
    job = daemon.submit(instance, ask=embedding_ask("some text", route=None), notify=said.append)
    instance.queue.cancel(job) if how == "cancelled" else instance.queue.close()
    clock.advance(10)
    assert [type(event) for event in said] == ([] if how == "cancelled" else [Failed])
    assert (daemon.totals.predictions, daemon.totals.embeddings, daemon.totals.failed) == (0, 0, 0)
    assert instance.queue.status == "idle"


def test_streamed_pieces_join_to_the_output(clock: Clock, daemon: Daemon, make_ask: MakeAsk) -> None:
    instance, ask = _load(daemon), make_ask(stream=True)
    said: list[JobEvent] = []
    daemon.submit(instance, ask=ask, notify=said.append)
    clock.advance(600)
    assert "".join(event.text for event in said if isinstance(event, Piece)) == ask.generation.text
    shares = [event.share for event in said if isinstance(event, PromptProgress)]
    assert shares[0] == 0
    assert shares[-1] == 1
    assert shares == sorted(shares)


def test_llama_server_rate_leaves_out_the_first_token(
    clock: Clock, daemon: Daemon, make_ask: MakeAsk
) -> None:
    stats = _run(clock, daemon, _load(daemon), make_ask()).stats
    assert stats.tokens_per_second == pytest.approx(96.0)
    assert stats.first_token_s is not None
    decode_s = stats.total_s - stats.first_token_s
    assert decode_s == pytest.approx((stats.predicted_tokens - 1) / 96.0)


@pytest.mark.parametrize(("key", "tps"), [(MLX, 58.0), (OLDER, 62.0)])
def test_total_time_is_decode_only_on_mlx_and_older_llama_cpp(
    clock: Clock, daemon: Daemon, make_ask: MakeAsk, key: str, tps: float
) -> None:
    stats = _run(clock, daemon, _load(daemon, key), make_ask(words=4, prompt_tokens=4000)).stats
    assert stats.first_token_s is not None
    assert stats.total_s < stats.first_token_s
    assert stats.tokens_per_second == pytest.approx(tps)


def test_engine_specific_fields_are_only_there_on_their_engine(
    clock: Clock, daemon: Daemon, make_ask: MakeAsk
) -> None:
    newer = _run(clock, daemon, _load(daemon), make_ask()).stats.to_wire()
    mlx = _run(clock, daemon, _load(daemon, MLX), make_ask()).stats.to_wire()
    assert "numGpuLayers" not in newer
    assert mlx["numGpuLayers"] == -1
    assert "usedDraftModelKey" not in newer


def test_output_of_one_token_has_no_rate(clock: Clock, daemon: Daemon, make_ask: MakeAsk) -> None:
    stats = _run(clock, daemon, _load(daemon), make_ask(max_tokens=1)).stats.to_wire()
    assert stats["predictedTokensCount"] == 1
    assert "tokensPerSecond" not in stats


def test_limits_end_a_prediction_with_their_own_reason(
    clock: Clock, daemon: Daemon, make_ask: MakeAsk
) -> None:
    instance = _load(daemon)
    by_tokens = _run(clock, daemon, instance, make_ask(max_tokens=7)).stats
    by_context = _run(clock, daemon, instance, make_ask(words=300, prompt_tokens=8100)).stats
    assert (by_tokens.stop_reason, by_tokens.predicted_tokens) == ("maxPredictedTokensReached", 7)
    assert (by_context.stop_reason, by_context.predicted_tokens) == ("contextLengthReached", 92)


def test_speculative_decoding_reports_its_drafts(clock: Clock, daemon: Daemon, make_ask: MakeAsk) -> None:
    ask = dataclasses.replace(make_ask(), draft=True)
    wire = _run(clock, daemon, _load(daemon), ask).stats.to_wire()
    assert wire["usedDraftModelKey"] == "qwen/qwen3-0.6b"
    drafted = wire["acceptedDraftTokensCount"] + wire["rejectedDraftTokensCount"]
    assert drafted == wire["totalDraftTokensCount"] > 0


def test_more_running_predictions_slow_each_other_down(
    clock: Clock, daemon: Daemon, make_ask: MakeAsk
) -> None:
    instance, rates = _load(daemon), list[float]()
    for _ in range(4):
        instance.queue.submit(
            ask=make_ask(words=300),
            notify=lambda e: (
                rates.append(e.stats.tokens_per_second or 0) if isinstance(e, Finished) else None
            ),
        )
    clock.advance(600)
    assert len(rates) == 4
    assert min(rates) < 96.0


def test_next_turn_finds_the_former_one_in_the_cache(clock: Clock, daemon: Daemon, make_ask: MakeAsk) -> None:
    instance, first = _load(daemon), make_ask(prompt_tokens=2000)
    _run(clock, daemon, instance, first)
    second = dataclasses.replace(
        make_ask(), prompt=f"{first.prompt}{first.generation.text} and more", prompt_tokens=2600
    )
    job = instance.queue.submit(ask=second)
    assert job.cached_tokens == 2000 + first.generation.token_count


def test_cancelled_prediction_keeps_what_was_written(clock: Clock, daemon: Daemon, make_ask: MakeAsk) -> None:
    instance, said = _load(daemon), list[JobEvent]()
    job = instance.queue.submit(ask=make_ask(words=900), notify=said.append)
    clock.advance(3)
    instance.queue.cancel(job)
    assert isinstance(said[-1], Finished)
    assert said[-1].stats.stop_reason == "userStopped"
    assert 100 < said[-1].stats.predicted_tokens < job.ask.generation.token_count
    assert job.ask.generation.text.startswith(said[-1].generation.text)
    assert instance.queue.status == "idle"


def test_prediction_cancelled_before_its_first_token_has_no_time_to_it(
    clock: Clock, daemon: Daemon, make_ask: MakeAsk
) -> None:
    instance, said = _load(daemon), list[JobEvent]()
    job = instance.queue.submit(ask=make_ask(prompt_tokens=8000), notify=said.append)
    clock.advance(0.5)
    instance.queue.cancel(job)
    assert isinstance(said[-1], Finished)
    assert "timeToFirstTokenSec" not in said[-1].stats.to_wire()
    assert said[-1].stats.predicted_tokens == 0


def test_cancelled_waiting_job_leaves_no_trace(clock: Clock, daemon: Daemon, make_ask: MakeAsk) -> None:
    daemon.load(QWEN, overrides={PARALLEL: 1}, instant=True)
    queue = daemon.loaded[0].queue
    queue.submit(ask=make_ask())
    queue.cancel(queue.submit(ask=make_ask()))
    clock.advance(600)
    assert daemon.totals.predictions == 1


def test_unload_ends_running_jobs_with_their_output_and_fails_waiting_ones(
    clock: Clock, daemon: Daemon, make_ask: MakeAsk
) -> None:
    daemon.load(QWEN, overrides={PARALLEL: 1}, instant=True)
    queue = daemon.loaded[0].queue
    running: list[JobEvent] = []
    waiting: list[JobEvent] = []
    queue.submit(ask=make_ask(words=900), notify=running.append)
    queue.submit(ask=make_ask(), notify=waiting.append)
    clock.advance(3)
    daemon.unload(QWEN)
    assert isinstance(running[-1], Finished)
    assert running[-1].stats.stop_reason == "modelUnloaded"
    assert isinstance(waiting[-1], Failed)
    assert (daemon.totals.predictions, daemon.totals.failed) == (1, 1)


def test_stalled_instance_generates_for_ever_and_its_queue_grows(
    clock: Clock, daemon: Daemon, make_ask: MakeAsk
) -> None:
    instance = _load(daemon)
    instance.queue.submit(ask=make_ask(words=900))
    clock.advance(2)
    daemon.stall(QWEN)
    for _ in range(6):
        instance.queue.submit(ask=make_ask())
    clock.advance(24 * 3600)
    assert (instance.queue.status, instance.queue.queued) == ("generating", 7)
    assert daemon.totals.predictions == 0
    daemon.unload(QWEN)
    assert 100 < daemon.totals.generated_tokens < 300


def test_totals_are_the_exact_sums_of_what_was_answered(
    clock: Clock, daemon: Daemon, make_ask: MakeAsk
) -> None:
    instance, done = _load(daemon), []
    for words in (10, 60, 200):
        instance.queue.submit(
            ask=make_ask(words=words),
            notify=lambda e: done.append(e) if isinstance(e, Finished) else None,
        )
    clock.advance(600)
    totals = daemon.totals
    assert totals.predictions == len(done) == 3
    assert totals.prompt_tokens == sum(event.stats.prompt_tokens for event in done)
    assert totals.generated_tokens == sum(event.generation.token_count for event in done)
    assert totals.reasoning_tokens == sum(event.generation.count("reasoning") for event in done)
