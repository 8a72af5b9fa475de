"""What recorded answers lack: only what a metric or an action needs, and only where something was recorded."""

from typing import Any

import pytest

from actions.domain.evidence import KNOWS_LESS
from daemonpulse.upgrade import EVIDENCE, impaired, missing, vanishing

STATE = "getInstanceProcessingState"
OUTPUT = "llm.prediction.output"
PROBE = "POST /api/v1/chat"


def lacks(call: str, *answers: Any) -> set[str]:
    """Name what answers of one call lack, without the call."""
    found = missing({call: answers})
    assert all(field.startswith(f"{call}:") for field in found)
    return {field.removeprefix(f"{call}:") for field in found}


def test_a_field_is_there_if_any_answer_has_it_in_a_type_that_can_be_read() -> None:
    assert lacks(STATE, {"status": "idle", "queued": 0}) == set()
    assert lacks(STATE, {"status": "idle"}) == {"queued"}
    assert lacks(STATE, {"status": "idle", "queued": "none"}) == {"queued"}
    assert lacks(STATE, {"status": "idle"}, {"queued": 1}) == set()
    assert lacks(STATE, {}) == {"status", "queued"}
    assert lacks(STATE, [{"status": "idle"}, [{"queued": 1}]]) == set()


@pytest.mark.parametrize("answers", [[], [[]], ["idle", 5, None], [["idle"]]])
def test_what_holds_no_object_tells_nothing(answers: list[Any]) -> None:
    assert missing({STATE: answers}) == ()


def test_a_call_that_nothing_needs_tells_nothing() -> None:
    assert missing({"aNewerCall": [{}]}) == ()


def test_of_several_calls_each_is_judged_by_its_own_answers() -> None:
    found = missing({STATE: [{"status": "idle"}], "info": [{"pid": 1, "isDaemon": True}], "version": []})
    assert found == (f"{STATE}:queued",)


def test_fields_inside_an_object_are_looked_for_in_it() -> None:
    memory = {"totalBytes": 1, "totalVramBytes": 1, "confidence": "low"}
    usage = {"memory": memory, "passesGuardrails": True}
    assert lacks("estimateModelUsage", usage) == set()
    smaller = {**memory, "totalVramBytes": None}
    assert lacks("estimateModelUsage", {**usage, "memory": smaller}) == {"memory.totalVramBytes"}
    assert lacks("estimateModelUsage", {**usage, "memory": 5}) == {
        "memory",
        "memory.confidence",
        "memory.totalBytes",
        "memory.totalVramBytes",
    }


def test_an_event_is_its_time_its_type_and_its_data() -> None:
    stats = {
        "tokensPerSecond": 9.5, "timeToFirstTokenSec": 0.1, "promptTokensCount": 3, "predictedTokensCount": 4,
        "stopReason": "eosFound",
    }  # fmt: skip
    data = {"type": OUTPUT, "modelIdentifier": "m", "output": "x", "stats": stats}
    whole = {"timestamp": 1, "data": data}
    always_lacking = lacks(OUTPUT, whole)
    assert not {"timestamp", "data.type", "data.output", "data.stats.stopReason"} & always_lacking

    def further(answer: Any) -> set[str]:
        return lacks(OUTPUT, answer) - always_lacking

    assert further({**whole, "timestamp": "now"}) == {"timestamp"}
    assert further({**whole, "timestamp": 1.5}) == set()
    assert further({**whole, "data": {**data, "type": "newer"}}) == {"data.type"}
    assert further({**whole, "data": {**data, "stats": {**stats, "promptTokensCount": "3"}}}) == {
        "data.stats.promptTokensCount"
    }
    assert {"data.type", "data.modelIdentifier"} <= further({**whole, "data": "x"})


def test_a_message_that_was_not_recorded_tells_nothing_of_the_field_it_has() -> None:
    result = {"type": "chat.end", "result": {"stats": {}, "model_instance_id": "m"}}
    begun = lacks(PROBE, {"type": "chat.start"})
    assert not {field for field in begun if field.startswith("result")}
    assert "result" in lacks(PROBE, {"type": "chat.end"})
    ended = lacks(PROBE, {"type": "chat.start"}, result)
    assert "result" not in ended
    assert "result.stats" in lacks(PROBE, {**result, "result": {"model_instance_id": "m"}})
    assert "load_time_seconds" in lacks(PROBE, {"type": "model_load.end"})
    assert "load_time_seconds" not in lacks(PROBE, {"type": "chat.end"})


def test_a_metric_vanishes_with_a_field_it_needs_or_the_object_that_holds_it() -> None:
    assert vanishing(()) == ()
    by_field = {row.name for row in vanishing([f"{OUTPUT}:data.stats.promptTokensCount"])}
    assert "llmster_prompt_tokens_total" in by_field
    by_parent = {row.name for row in vanishing([f"{OUTPUT}:data.stats"])}
    assert by_field < by_parent
    assert vanishing([f"{OUTPUT}:data.stat"]) == ()
    both = vanishing([f"{OUTPUT}:data.stats", f"{STATE}:queued"])
    assert {row.name for row in both} > by_parent


def test_an_action_is_told_once_per_consequence() -> None:
    assert impaired(()) == {}
    assert impaired([f"{STATE}:newer"]) == {}
    found = impaired(["listDownloadedModels:modelKey"])
    assert [lack.effect for lack in found["load"]] == ["daemon-unreadable"]
    assert all(lacks for lacks in found.values())
    assert found.keys() < EVIDENCE.keys()
    idle = impaired([f"{STATE}:queued"])
    assert all(len(lacks) == len(set(lacks)) for lacks in idle.values())
    situations = {lack.when for lacks in idle.values() for lack in lacks}
    assert len(situations) > 1, "what is read in one situation only is told as well"
    assert KNOWS_LESS in {lack.effect for lacks in impaired(["info:pid"]).values() for lack in lacks}
