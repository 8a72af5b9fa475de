"""Which process serves which instance, learned from the engines' own log lines."""

from exporter.llmster.events import RuntimeLog, ServerLog
from exporter.llmster.state import InstanceInfo
from exporter.pipeline.engine_pids import REMEMBERED, EnginePids

INSTANCE = InstanceInfo(model_key="qwen/qwen3-8b", type="llm", identifier="qwen", instance_reference="ref-1")


def line(pid: int | None, *, model: str | None = None, reference: str | None = None) -> RuntimeLog:
    return RuntimeLog(0, "debug", "all slots are idle", "llama.cpp", "2", "llama.cpp", model, reference, pid)


def test_the_last_pid_heard_for_a_load_counts() -> None:
    pids = EnginePids()
    pids.take_log(line(41, model="qwen", reference="ref-1"))
    pids.take_log(line(42, model="qwen", reference="ref-1"))
    assert pids.pid_of(INSTANCE) == 42


def test_the_pid_of_this_load_outweighs_one_of_the_same_name() -> None:
    pids = EnginePids()
    pids.take_log(line(42, reference="ref-1"))
    pids.take_log(line(43, model="qwen", reference="ref-2"))
    assert pids.pid_of(INSTANCE) == 42


def test_a_name_is_enough_where_the_reference_is_missing() -> None:
    pids = EnginePids()
    pids.take_log(line(42, model="qwen"))
    assert pids.pid_of(INSTANCE) == 42


def test_lines_without_a_pid_and_other_events_teach_nothing() -> None:
    pids = EnginePids()
    pids.take_log(line(None, model="qwen", reference="ref-1"))
    pids.take_log(ServerLog(0, "debug", "qwen"))
    assert pids.pid_of(INSTANCE) is None


def test_what_was_not_heard_for_longest_is_forgotten_first() -> None:
    pids = EnginePids()
    pids.take_log(line(1, model="qwen"))
    for number in range(REMEMBERED - 1):
        pids.take_log(line(2, model=f"other-{number}"))
    assert pids.pid_of(INSTANCE) == 1
    pids.take_log(line(2, model="one-more"))
    assert pids.pid_of(INSTANCE) is None
