import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from llmster_sim.clock import Clock
from llmster_sim.engine.daemon import Daemon
from llmster_sim.models.catalogue import CATALOGUE
from llmster_sim.traffic.scenarios import SCENARIOS, build, load_initial
from llmster_sim.wire.faults import Faults

Events = list[dict[str, Any]]
QWEN = "qwen/qwen3-8b"
OSS = "openai/gpt-oss-20b"


class _Play:
    """A scenario on a daemon without sockets, from its start."""

    def __init__(self, name: str, *, seconds: float = 240.0, seed: int = 5) -> None:
        self.clock = Clock(manual=True)
        self.daemon = Daemon(clock=self.clock, models=CATALOGUE, seed=seed)
        self.frames: list[str] = []
        self.faults = faults = Faults(clock=self.clock)
        faults.broadcast = self.frames.append
        self.ends: list[float] = []
        faults.restart = self.ends.append
        self.events: Events = []
        self.daemon.watch(self.events.append)
        load_initial(self.daemon)
        self.scenario = build(name=name, daemon=self.daemon, faults=faults, seed=seed)
        self.scenario.start()
        self.clock.advance(seconds)

    def of(self, kind: str) -> Events:
        return [event for event in self.events if event["data"]["type"] == kind]


@pytest.mark.parametrize("name", SCENARIOS)
def test_same_seed_plays_the_same_events_to_the_byte(name: str) -> None:
    first, second = _Play(name), _Play(name)
    assert json.dumps(first.events) == json.dumps(second.events)
    assert first.frames == second.frames
    assert first.daemon.totals == second.daemon.totals


@pytest.mark.parametrize("name", sorted(set(SCENARIOS) - {"idle"}))
def test_log_stream_holds_exactly_the_predictions_of_the_totals(name: str) -> None:
    play = _Play(name)
    outputs = play.of("llm.prediction.output")
    totals = play.daemon.totals
    stats = [event["data"]["stats"] for event in outputs if "stats" in event["data"]]
    assert len(outputs) == totals.logged_predictions == totals.predictions > 5
    assert sum(s["promptTokensCount"] for s in stats) == totals.logged_prompt_tokens
    assert sum(s["predictedTokensCount"] for s in stats) == totals.logged_generated_tokens
    assert sum(len(event["data"]["output"]) for event in outputs) == totals.output_characters


def test_another_seed_plays_something_else() -> None:
    assert _Play("steady", seed=1).daemon.totals != _Play("steady", seed=2).daemon.totals


def test_idle_does_nothing_at_all() -> None:
    play = _Play("idle")
    started = [event["data"]["message"].split(":")[0].split() for event in play.events]
    assert started == [["srv", "load_model"]] * 3, "what engines print when they start"
    assert [i.identifier for i in play.daemon.loaded][:2] == [QWEN, OSS]


def test_steady_uses_three_models_tools_drafts_and_embeddings() -> None:
    totals = _Play("steady", seconds=900).daemon.totals
    assert set(totals.by_model) == {QWEN, OSS, "deepseek/deepseek-r1-0528-qwen3-8b"}
    assert min(totals.tool_calls, totals.draft_tokens, totals.embeddings, totals.reasoning_tokens) > 0
    assert totals.by_stop_reason["userStopped"] > 0


def test_burst_fills_the_queue_beyond_the_slots() -> None:
    play = _Play("burst", seconds=5.5)
    (instance, *_) = play.daemon.loaded
    assert instance.queue.queued > instance.config.parallel
    assert len(instance.queue.running) == instance.config.parallel


def test_agent_turns_begin_with_the_former_prompt_and_output() -> None:
    play = _Play("agent")
    inputs = [event["data"]["input"] for event in play.of("llm.prediction.input")]
    outputs = [event["data"]["output"] for event in play.of("llm.prediction.output")]
    whole = [before + after for before, after in zip(inputs, outputs, strict=True)]
    followed = sum(any(later.startswith(one) for later in inputs[i + 1 :]) for i, one in enumerate(whole))
    assert followed > len(inputs) / 2
    assert play.daemon.totals.tool_calls > len(inputs) / 2


def test_stuck_instance_generates_for_ever_while_others_go_on() -> None:
    play = _Play("stuck")
    by_name = {instance.identifier: instance.queue for instance in play.daemon.loaded}
    assert by_name[QWEN].status == "generating"
    assert by_name[QWEN].queued > 4
    before = play.daemon.totals.by_model.copy()
    play.clock.advance(300)
    assert play.daemon.totals.by_model[QWEN] == before[QWEN]
    assert play.daemon.totals.by_model[OSS] > before[OSS]


def test_crash_kills_a_busy_engine_which_is_loaded_again_on_demand() -> None:
    play = _Play("crash", seconds=400)
    totals = play.daemon.totals
    assert totals.crashes >= 2
    assert totals.failed >= totals.crashes
    texts = Counter(
        e["data"]["message"].partition(" ")[0]
        for e in play.of("runtime.log")
        if e["data"]["level"] == "error"
    )
    assert texts["The"] == texts["Engine"] == totals.crashes
    assert totals.loads > 3


async def test_a_stalled_daemon_answers_nothing_for_a_while_and_then_again() -> None:
    play = _Play("stall", seconds=25)
    waiting = asyncio.create_task(play.faults.thawed())
    await asyncio.sleep(0)
    assert not waiting.done()
    play.clock.advance(90)
    await asyncio.wait_for(waiting, 5)


def test_a_daemon_that_restarts_is_down_for_a_while_and_later_again() -> None:
    play = _Play("restart", seconds=25)
    assert play.ends == [90.0]
    play.scenario.stop()
    play.scenario.start()
    play.clock.advance(100)
    assert play.ends == [90.0]
    play.clock.advance(200)
    assert play.ends == [90.0, 90.0]


def test_blocked_fans_make_busy_gpus_slow_down_and_free_ones_let_them_cool() -> None:
    play = _Play("heat", seconds=20)

    def hot(seconds: int) -> int:
        seen = 0
        for _ in range(seconds):
            play.clock.advance(1)
            seen += any(gpu.hot for gpu in play.daemon.gpus.read(play.clock.now_s))
        return seen

    assert hot(360) > 180
    hot(60)
    assert hot(50) == 0


def test_malformed_frames_come_beside_ordinary_traffic() -> None:
    play = _Play("malformed", seconds=60)
    parsed: list[Any] = []
    broken = 0
    for text in play.frames:
        try:
            parsed.append(json.loads(text.replace("{id}", "1")))
        except ValueError:
            broken += 1
    logs = [frame["message"].get("log", {}) for frame in parsed]
    kinds = {log["data"]["type"] for log in logs if log}
    stats = [log["data"]["stats"] for log in logs if "stats" in log.get("data", {})]
    assert broken >= 1
    assert "channelSurprise" in {frame["type"] for frame in parsed}
    assert "llm.prediction.toolCall" in kinds
    assert any(isinstance(log.get("timestamp"), str) for log in logs)
    assert any(s["stopReason"] == "surprised" for s in stats)
    assert any(s["tokensPerSecond"] is None for s in stats)
    assert play.daemon.totals.predictions == _Play("steady", seconds=60).daemon.totals.predictions


def test_leak_grows_the_memory_of_the_daemon_until_it_restarts() -> None:
    play = _Play("leak")
    grown = play.daemon.host_rss_bytes
    assert grown > _Play("steady").daemon.host_rss_bytes
    play.daemon.restart()
    assert play.daemon.host_rss_bytes < grown


def test_stopped_scenario_sends_nothing_more_and_can_go_on() -> None:
    play = _Play("steady", seconds=30)
    play.scenario.stop()
    play.clock.advance(120)
    quiet = play.daemon.totals.predictions
    play.clock.advance(600)
    assert play.daemon.totals.predictions == quiet
    play.scenario.start()
    play.clock.advance(120)
    assert play.daemon.totals.predictions > quiet


def test_scenarios_can_be_joined() -> None:
    totals = _Play("steady+agent").daemon.totals
    assert totals.predictions > max(_Play("steady").daemon.totals.predictions, 30)


def test_unknown_scenario_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"one of idle, steady, .* got 'nope'"):
        _Play("nope")


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario_plays_on_a_daemon_that_lacks_its_models(name: str) -> None:
    clock = Clock(manual=True)
    daemon = Daemon(clock=clock, models=CATALOGUE[1:2], seed=1)
    load_initial(daemon)
    build(name=name, daemon=daemon, faults=Faults(clock=clock), seed=1).start()
    clock.advance(200)
    assert set(daemon.totals.by_model) <= {OSS}
