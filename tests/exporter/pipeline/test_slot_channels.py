"""One engine, two channels: which one is shown, what each counts once, and what the daemon itself says of an engine."""

from typing import Any

import pytest

from exporter.llmster.events import PredictionInput, ServerLog
from exporter.pipeline.engine_state import EngineCounts, EngineState
from exporter.pipeline.slots import Crash, SlotMonitor, _Instance
from tests.exporter.pipeline.engine_lines import DECODE, LAUNCH, NOW, RELEASE, monitor, runtime, server

CRASHED = "The model has crashed without additional information. (Exit code: {})"
RESTORED = "Prompt cache restore: cached_tokens=6 uncached_tokens=7"
DEFERRED = "srv  process_sing: no slot is available, defer task, id_task = {}"
STARTED = "srv    load_model: initializing, n_slots = 4, n_ctx_slot = 8192, kv_unified = 'true'"


def told(lines: int, heard_ms: int, stamp_ms: int | None) -> EngineState:
    state = EngineState()
    state.lines, state.heard_ms, state._stamp_ms = lines, heard_ms, stamp_ms
    return state


@pytest.mark.parametrize(
    ("of_runtime", "of_server", "leads"),
    [
        ((0, 0, None), (0, 0, None), "server"),
        ((0, NOW + 99_999, 9), (1, 0, 0), "server"),
        ((1, 0, 0), (0, NOW + 99_999, 9), "runtime"),
        ((1, NOW + 10_001, 1), (9, NOW, 2), "runtime"),
        ((9, NOW, 2), (1, NOW + 10_001, 1), "server"),
        ((1, NOW + 10_000, 2), (9, NOW, 1), "server"),
        ((2, NOW, 2), (4, NOW, 1), "runtime"),
        ((2, NOW, 2), (5, NOW, 1), "server"),
        ((4, NOW, 1), (2, NOW, 2), "server"),
        ((5, NOW, 1), (2, NOW, 2), "runtime"),
        ((3, NOW, None), (4, NOW, None), "server"),
        ((3, NOW, 1), (3, NOW, 1), "runtime"),
    ],
)
def test_the_channel_that_goes_on_tells_more_and_is_ahead_is_shown(
    of_runtime: tuple[int, int, int | None], of_server: tuple[int, int, int | None], leads: str
) -> None:
    instance = _Instance(runtime=told(*of_runtime), server=told(*of_server))
    assert instance.leading() is getattr(instance, leads)


def test_what_an_engine_is_asked_for_is_its_own_and_absent_of_an_unknown_one() -> None:
    slots = monitor(runtime(STARTED), runtime(LAUNCH), server(STARTED, bracket="[n]"))
    assert (slots.engine_slots("m"), slots.engine_slots("n"), slots.engine_slots("x")) == (4, 4, None)
    engine = slots.engine("m")
    assert engine is not None
    assert engine.slots(None) == slots.slots("m")
    assert slots.engine("x") is None
    assert slots.counts("x") == EngineCounts()
    assert (slots.slots("x"), slots.last_progress_ms("x")) == ({}, None)
    assert slots.add(PredictionInput(NOW, "m", "", "x")) is None


@pytest.mark.parametrize(
    "event",
    [
        runtime(RESTORED),
        runtime(f"{RESTORED}\r "),
        runtime(f"engine\nline\n{RESTORED}"),
        server(RESTORED, bracket="[m]"),
        server(RESTORED, level="info", bracket="[m]"),
        server(RESTORED, level="info"),
    ],
)
def test_what_came_from_the_cache_is_counted_whichever_way_the_daemon_tells(event: Any) -> None:
    slots = SlotMonitor()
    slots.keep_only({"m"})
    slots.add(event)
    assert slots.instances() == ["m"]
    counts = slots.counts("m")
    assert (counts.cached_tokens, counts.processed_tokens) == (6, 7)
    assert slots.take_cached_tokens("m", None, 5, NOW) is None
    assert slots.take_cached_tokens("x", 13, 5, NOW) is None
    assert slots.take_cached_tokens("m", 13, 5, NOW + 30_001) is None
    assert slots.take_cached_tokens("m", 13, 5, NOW) == 6


@pytest.mark.parametrize(
    "event",
    [
        runtime(f"  {RESTORED}"),
        runtime(f"{RESTORED} and more"),
        runtime("\n" * 8 + RESTORED),
        runtime(RESTORED, model=None, ref=None, pid=None),
        server(RESTORED, level="error", bracket="[m]"),
        server("x" * 50 + RESTORED, level="info", bracket="[m]"),
        server(f"hello\n{RESTORED}", level="info", bracket="[m]"),
        server(RESTORED, level="info"),
    ],
)
def test_what_is_not_that_line_or_nobodys_is_not_counted(event: Any) -> None:
    slots = monitor(runtime(LAUNCH), runtime(LAUNCH, model="n", ref="s"), event)
    assert slots.counts("m").processed_tokens == slots.counts("n").processed_tokens == 0


def test_both_channels_of_one_engine_count_once() -> None:
    slots = monitor(runtime(RESTORED), server(RESTORED, bracket="[m]"))
    assert slots.counts("m").cached_tokens == 6
    slots.add(server(RESTORED, bracket="[m]"))
    assert slots.counts("m").cached_tokens == 12


def crash(code: int = 6, at_ms: int = NOW, instance: str | None = "m") -> Crash:
    return Crash(at_ms, instance, code, was_running=True)


def crashes(*events: Any) -> list[Crash | None]:
    slots = SlotMonitor()
    return [slots.add(event) for event in events]


def by_runtime(code: int = 6, at_ms: int = NOW, **changes: Any) -> Any:
    return runtime(CRASHED.format(code), at_ms, **changes)


def by_server(code: int = 6, at_ms: int = NOW, bracket: str = "[m]") -> Any:
    return server(CRASHED.format(code), at_ms, "error", bracket)


def test_a_crash_that_comes_both_ways_is_one() -> None:
    assert crashes(by_runtime(), by_server()) == [crash(), None]
    assert crashes(by_server(), by_runtime()) == [crash(), None]
    assert crashes(by_runtime(), by_server(at_ms=NOW + 10_000)) == [crash(), None]
    assert crashes(by_runtime(), by_server(bracket="")) == [crash(), None]
    nameless = by_runtime(model=None, ref=None, pid=None)
    assert crashes(nameless, by_server()) == [crash(instance=None), None]


def test_what_differs_is_another_crash() -> None:
    later = NOW + 10_001
    assert crashes(by_runtime(), by_server(at_ms=later)) == [crash(), crash(at_ms=later)]
    assert crashes(by_runtime(), by_runtime()) == [crash(), crash()]
    assert crashes(by_server(), by_server()) == [crash(), crash()]
    assert crashes(by_runtime(), by_server(7)) == [crash(), crash(7)]
    assert crashes(by_runtime(), by_server(bracket="[n]")) == [crash(), crash(instance="n")]
    began = "Engine protocol runtime llama-server for x exited before becoming healthy. exitCode=6"
    assert crashes(by_runtime(), server(began, level="error", bracket="[m]")) == [
        crash(),
        Crash(NOW, "m", 6, was_running=False),
    ]


def test_a_copy_is_taken_once_and_a_further_one_is_a_crash() -> None:
    assert crashes(by_runtime(), by_server(), by_server()) == [crash(), None, crash()]
    assert crashes(by_runtime(), by_runtime(7), by_server(7), by_server()) == [crash(), crash(7), None, None]


def test_a_crash_of_the_server_log_belongs_to_its_bracket_or_to_the_only_instance() -> None:
    slots = monitor(runtime(LAUNCH))
    assert slots.add(by_server(bracket="")) == crash()
    assert slots.instances() == []
    two = monitor(runtime(LAUNCH), runtime(LAUNCH, model="n", ref="s"))
    assert two.add(by_server(bracket="")) == crash(instance=None)
    assert two.instances() == ["m", "n"]
    assert two.add(by_server(7, bracket="[n]")) == crash(7, instance="n")
    assert two.instances() == ["m"]


def test_a_fatal_line_is_looked_for_in_the_first_lines_of_an_event() -> None:
    lines = "\n".join(["The engine exited"] * 7)
    assert crashes(runtime(f"{lines}\n{CRASHED.format(6)}")) == [crash()]
    assert crashes(runtime(f"{lines}\nx\n{CRASHED.format(6)}")) == [None]
    assert crashes(server(f"hello\n{CRASHED.format(6)}", level="error", bracket="[m]")) == [None]
    behind = f"slot print_timing: id  0 |\n{CRASHED.format(6)}"
    assert crashes(server(behind, level="error", bracket="[m]")) == [crash()]


@pytest.mark.parametrize(
    "content",
    [
        f"[DEBUG][m] {LAUNCH}",
        f"[2026-11-22 12:51:12][INFO][m] {LAUNCH}",
        f"[2026-11-22 12:51:12][m] {LAUNCH}",
        LAUNCH,
    ],
)
def test_a_line_of_the_server_log_counts_with_its_time_and_as_debug_only(content: str) -> None:
    assert monitor(ServerLog(NOW, "debug", content)).instances() == []
    assert monitor(server(LAUNCH, level="info", bracket="[m]")).instances() == []


def test_how_long_requests_waited_is_told_once_by_whichever_channel() -> None:
    def waited(*makes: Any) -> list[tuple[str, float]]:
        slots = SlotMonitor()
        slots.keep_only({"m"})
        for task in (7, 8):
            for make in makes:
                slots.add(make(DEFERRED.format(task), NOW))
            for make in makes:
                launch = f"slot launch_slot_: id  {task} | task {task} | processing task"
                slots.add(make(launch, NOW + 1000 * (task - 5)))
        return slots.queued

    expected = [("m", 2.0), ("m", 3.0)]
    assert waited(runtime) == expected
    assert waited(server) == expected
    assert waited(runtime, server) == expected


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {"ref": "s"}),
        ({"ref": None}, {"ref": None, "pid": 8}),
        ({"ref": None, "pid": None}, {"ref": None, "pid": None}),
    ],
)
def test_a_line_in_pieces_is_joined_by_its_process_else_by_its_instance(
    ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    slots = monitor(
        runtime(LAUNCH[:40], **ours),
        runtime(RELEASE[:40], model="n", **theirs),
        runtime(f"{LAUNCH[40:]}\n", **ours),
    )
    assert slots.slots("m")[0].busy


def test_what_a_former_process_left_unfinished_is_not_joined_to_what_the_next_one_says() -> None:
    slots = monitor(runtime(LAUNCH), runtime(DECODE[:40]), runtime(LAUNCH, ref="other"))
    slots.add(runtime(f"{DECODE[40:]}\n", ref="r", model=None))
    assert slots.slots("m")[0].tokens_per_second is None


def test_pieces_of_the_server_log_are_joined_by_their_bracket() -> None:
    for ours, theirs in (("[m]", "[n]"), ("[m]", "[LM STUDIO SERVER]"), ("[LM STUDIO SERVER]", "[m]")):
        slots = SlotMonitor()
        if "[m]" not in ours:
            slots.keep_only({"x"})
        slots.add(server(LAUNCH[:40], bracket=ours))
        slots.add(server(RELEASE[:40], bracket=theirs))
        slots.add(server(f"{LAUNCH[40:]}\n", bracket=ours))
        assert slots.slots("m" if ours == "[m]" else "x")[0].busy, (ours, theirs)


def test_lines_that_are_nobodys_are_counted_each() -> None:
    nobodys = runtime(LAUNCH, model=None, ref=None, pid=None)
    assert monitor(nobodys, runtime(f"{LAUNCH}\n{RELEASE}\n", model=None, ref="s"), nobodys).unattributed == 4


def test_a_process_starts_once_and_a_channel_that_names_none_may_start_anew() -> None:
    assert monitor(runtime(STARTED), runtime(LAUNCH), runtime(STARTED)).slots("m")[0].busy
    assert (
        not monitor(*(server(line, bracket="[m]") for line in (STARTED, LAUNCH, STARTED))).slots("m")[0].busy
    )
