import re
from typing import Any

import pytest

from llmster_sim.clock import Clock
from llmster_sim.engine import log_events
from llmster_sim.engine.daemon import Daemon, Settings
from llmster_sim.models.load_config import PARALLEL
from tests.llmster_sim.conftest import MakeAsk, MakeDaemon

QWEN = "qwen/qwen3-8b"
MLX = "deepseek/deepseek-r1-0528-qwen3-8b"
OLDER = "google/gemma-3-12b"

Events = list[dict[str, Any]]


def _of(events: Events, kind: str) -> Events:
    return [event for event in events if event["data"]["type"] == kind]


def _play(clock: Clock, daemon: Daemon, key: str, *asks: Any, parallel: int = 4) -> Events:
    daemon.load(key, overrides={PARALLEL: parallel}, instant=True)
    seen: Events = []
    stop = daemon.watch(seen.append)
    for ask in asks:
        daemon.submit(daemon.loaded[-1], ask=ask)
    clock.advance(600)
    stop()
    return seen


def test_llama_cpp_input_and_output_share_one_timestamp(
    clock: Clock, daemon: Daemon, make_ask: MakeAsk
) -> None:
    seen = _play(clock, daemon, QWEN, make_ask())
    (first,), (last,) = _of(seen, "llm.prediction.input"), _of(seen, "llm.prediction.output")
    assert first["timestamp"] == last["timestamp"] > clock.start_ms + 500


def test_mlx_input_marks_the_start_of_a_prediction(clock: Clock, daemon: Daemon, make_ask: MakeAsk) -> None:
    seen = _play(clock, daemon, MLX, make_ask())
    (first,), (last,) = _of(seen, "llm.prediction.input"), _of(seen, "llm.prediction.output")
    assert first["timestamp"] == clock.start_ms
    assert last["timestamp"] > first["timestamp"]


def test_inputs_and_outputs_of_parallel_predictions_do_not_alternate(
    clock: Clock, daemon: Daemon, make_ask: MakeAsk
) -> None:
    seen = _play(clock, daemon, MLX, make_ask(words=200), make_ask(words=10))
    kinds = [e["data"]["type"] for e in seen if e["data"]["type"].startswith("llm.prediction")]
    assert kinds == ["llm.prediction.input"] * 2 + ["llm.prediction.output"] * 2
    outputs = [len(e["data"]["output"]) for e in _of(seen, "llm.prediction.output")]
    assert outputs == sorted(outputs)


def test_llama_cpp_predictions_that_end_together_interleave(
    clock: Clock, daemon: Daemon, make_ask: MakeAsk
) -> None:
    daemon.load(QWEN, instant=True)
    seen: Events = []
    daemon.watch(seen.append)
    queue = daemon.loaded[0].queue
    jobs = [queue.submit(ask=make_ask(words=900)) for _ in range(2)]
    clock.advance(2)

    def cancel_all() -> None:
        for job in jobs:
            queue.cancel(job)

    clock.call_later(1, cancel_all)
    clock.advance(1)
    kinds = [e["data"]["type"].rpartition(".")[2] for e in seen if "prediction" in e["data"]["type"]]
    assert kinds == ["input", "input", "output", "output"]


def test_some_outputs_come_without_stats_and_the_truth_says_how_many(
    clock: Clock, daemon: Daemon, make_ask: MakeAsk
) -> None:
    seen = _play(clock, daemon, QWEN, *(make_ask(words=2) for _ in range(60)))
    outputs = _of(seen, "llm.prediction.output")
    bare = [event for event in outputs if "stats" not in event["data"]]
    assert len(outputs) == daemon.totals.logged_predictions == 60
    assert 0 < len(bare) == 60 - daemon.totals.logged_with_stats
    logged = sum(e["data"]["stats"]["predictedTokensCount"] for e in outputs if "stats" in e["data"])
    assert logged == daemon.totals.logged_generated_tokens < daemon.totals.generated_tokens


def test_prompt_logging_can_be_off_while_everything_else_is_told(
    clock: Clock, make_daemon: MakeDaemon, make_ask: MakeAsk
) -> None:
    seen = _play(clock, make_daemon(settings=Settings(log_prompts=False)), QWEN, make_ask())
    assert {event["data"]["type"] for event in seen} == {"server.log", "runtime.log"}


def test_engine_lines_follow_a_slot_from_launch_to_idle(
    clock: Clock, daemon: Daemon, make_ask: MakeAsk
) -> None:
    seen = _of(_play(clock, daemon, QWEN, make_ask(words=900, prompt_tokens=2000)), "runtime.log")
    texts = [event["data"]["message"] for event in seen]
    expected = [
        r"slot launch_slot_: id +0 \| task 1 \| processing task",
        r"Prompt cache restore: cached_tokens=0 uncached_tokens=2000",
        r"task 1 \| prompt processing, n_tokens = \d+, progress = 0\.\d+, t = [\d.]+ s / [\d.]+ tokens per second",
        r"slot print_timing: id +0 \| task 1 \| n_gen = \d+, tg = [\d.]+ t/s, tg_3s = [\d.]+ t/s",
        r"prompt eval time = [\d.]+ ms / 2000 tokens \([\d.]+ ms per token, [\d.]+ tokens per second\)",
        r"slot release: id +0 \| task 1 \| stop processing",
        r"srv +update_slots: all slots are idle",
    ]
    rest = iter(texts)
    for pattern in expected:
        assert any(re.search(pattern, text) for text in rest), pattern


def test_engine_lines_tie_the_process_to_the_instance(
    clock: Clock, daemon: Daemon, make_ask: MakeAsk
) -> None:
    seen = _of(_play(clock, daemon, QWEN, make_ask()), "runtime.log")
    (instance,) = daemon.loaded
    facts = {(e["data"]["pid"], e["data"]["instanceReference"], e["data"]["modelIdentifier"]) for e in seen}
    assert facts == {(instance.pid, instance.reference, QWEN)}


def test_older_engine_uses_the_older_word(clock: Clock, daemon: Daemon, make_ask: MakeAsk) -> None:
    seen = _of(_play(clock, daemon, OLDER, make_ask(words=900)), "runtime.log")
    assert any(re.search(r"n_decoded = \d+, tg = [\d.]+ t/s$", e["data"]["message"]) for e in seen)


def test_mlx_has_no_slot_lines_at_all(clock: Clock, daemon: Daemon, make_ask: MakeAsk) -> None:
    assert _of(_play(clock, daemon, MLX, make_ask(words=900)), "runtime.log") == []


def test_speculative_decoding_prints_its_acceptance() -> None:
    line = log_events.draft_acceptance(accepted=81, total=98)
    assert line.startswith("draft acceptance = 0.82653 ( 81 accepted / 98 generated), mean len = ")


def test_engine_lines_can_also_come_as_debug_server_lines(
    clock: Clock, make_daemon: MakeDaemon, make_ask: MakeAsk
) -> None:
    seen = _play(clock, make_daemon(settings=Settings(engine_lines_in_server_log=True)), QWEN, make_ask())
    runtime = [event["data"]["message"] for event in _of(seen, "runtime.log")]
    server = [e["data"]["content"] for e in _of(seen, "server.log") if e["data"]["level"] == "debug"]
    assert [line.partition("] ")[2] for line in server] == runtime


@pytest.mark.parametrize(
    ("scope", "line"),
    [
        (None, "[2026-11-22 12:51:12][INFO] Success!"),
        ("qwen/qwen3-8b", "[2026-11-22 12:51:12][INFO][qwen/qwen3-8b] Success!"),
    ],
)
def test_server_line_begins_with_wall_clock_level_and_scope(scope: str | None, line: str) -> None:
    event = log_events.server(at_ms=1_795_351_872_000, level="info", text="Success!", scope=scope)
    assert event["data"]["content"] == line


def test_only_the_first_line_of_an_event_is_stamped() -> None:
    text = log_events.received_request(
        method="POST", path="/v1/chat/completions", body={"model": "m", "stream": True}
    )
    content = log_events.server(at_ms=1_795_351_872_000, level="debug", text=text)["data"]["content"]
    first, *rest = content.splitlines()
    assert first == "[2026-11-22 12:51:12][DEBUG] Received request: POST to /v1/chat/completions with body  {"
    assert not any(line.startswith("[") for line in rest)


def test_watcher_gets_no_history_and_nothing_after_it_stopped(
    clock: Clock, daemon: Daemon, make_ask: MakeAsk
) -> None:
    daemon.load(QWEN, instant=True)
    daemon.submit(daemon.loaded[0], ask=make_ask())
    clock.advance(600)
    seen: Events = []
    stop = daemon.watch(seen.append)
    assert seen == []
    daemon.server_line(level="info", text="one")
    stop()
    daemon.server_line(level="info", text="two")
    assert len(seen) == 1


def test_a_task_that_waits_for_a_slot_is_deferred_before_it_is_launched(
    clock: Clock, daemon: Daemon, make_ask: MakeAsk
) -> None:
    seen = _play(clock, daemon, QWEN, make_ask(), make_ask(), make_ask(), parallel=2)
    lines = [event["data"]["message"] for event in _of(seen, "runtime.log")]
    deferred = [line for line in lines if "defer task" in line]
    assert deferred == ["srv  process_sing: no slot is available, defer task, id_task = 3"]
    (launched,) = [line for line in lines if "| task 3 | processing task" in line]
    assert lines.index(deferred[0]) < lines.index(launched)


def test_a_waiting_task_that_is_cancelled_is_never_launched(
    clock: Clock, daemon: Daemon, make_ask: MakeAsk
) -> None:
    daemon.load(QWEN, overrides={PARALLEL: 1}, instant=True)
    seen: Events = []
    daemon.watch(seen.append)
    daemon.submit(daemon.loaded[-1], ask=make_ask())
    instance = daemon.loaded[-1]
    instance.queue.cancel(daemon.submit(instance, ask=make_ask()))
    clock.advance(600)
    lines = [event["data"]["message"] for event in _of(seen, "runtime.log")]
    assert "srv          stop: cancel task, id_task = 2" in lines
    assert not [line for line in lines if "| task 2 | processing task" in line]
