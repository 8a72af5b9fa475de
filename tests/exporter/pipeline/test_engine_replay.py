"""What a real llama-server printed, replayed: slots are shown as the server itself says, however its lines arrive."""

from collections.abc import Callable

import pytest

from exporter.llmster.events import LogEvent
from exporter.pipeline.slots import SlotMonitor
from tests.exporter.pipeline.engine_lines import LAUNCH, RELEASE
from tests.exporter.pipeline.engine_replay import (
    NAMES,
    WAYS,
    Events,
    Lines,
    cut_anywhere,
    joined_and_split,
    recording,
    replay,
    runtime,
    server,
    split,
    wrong_polls,
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", WAYS)
def test_no_poll_is_wrong_however_the_lines_arrive(name: str, way: str) -> None:
    found = recording(name)
    _, states = replay(found.lines, way)
    assert wrong_polls(found, states) == 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cut", [split, joined_and_split, cut_anywhere])
def test_lines_are_found_wherever_an_event_ends(
    cut: Callable[[Callable[[str, int], LogEvent], int], Callable[[Lines], Events]], name: str, seed: int
) -> None:
    lines = recording(name).lines
    whole, _ = replay(lines, "as they are")
    monitor = SlotMonitor()
    monitor.keep_only({"m"})
    for _, event in cut(runtime, seed)(lines):
        monitor.add(event)
    assert {number: (slot.busy, slot.task) for number, slot in monitor.slots("m").items()} == {
        number: (slot.busy, slot.task) for number, slot in whole.slots("m").items()
    }
    assert monitor.counts("m") == whole.counts("m")


def test_every_launch_in_one_event_is_told_with_its_own_time() -> None:
    """Slots that are launched and released within one event are runs like any other."""
    told: list[tuple[int, int | None]] = []
    monitor = SlotMonitor()
    monitor.busy_changed = lambda _, slots: told.extend(
        (slot.progress_ms, slot.task if slot.busy else None) for slot in (slots or {}).values()
    )
    lines = [
        "0.01.000.000 I slot launch_slot_: id  0 | task 7 | processing task, is_child = 0",
        "0.01.400.000 I slot      release: id  0 | task 7 | stop processing: n_tokens = 9, truncated = 0",
        "0.01.500.000 I slot launch_slot_: id  0 | task 8 | processing task, is_child = 0",
    ]
    monitor.add(runtime("\n".join(lines), 10_000))
    assert told == [(9_500, 7), (9_900, None), (10_000, 8)]


@pytest.mark.parametrize("silent", [runtime, server])
def test_a_channel_that_ends_is_not_shown_while_the_other_goes_on(
    silent: Callable[[str, int], LogEvent],
) -> None:
    going = server if silent is runtime else runtime
    monitor = SlotMonitor()
    monitor.keep_only({"m"})
    for task in range(50):
        for number, text in enumerate((LAUNCH, RELEASE) if task < 49 else (LAUNCH,)):
            line = f"0.{task:02d}.00{number}.000 I " + text.replace("task 0", f"task {task}")
            for make in (silent, going):
                monitor.add(make(line, 1_000_000 + 1000 * task + number))
    line = "1.10.000.000 I " + RELEASE.replace("task 0", "task 49")
    monitor.add(going(line, 1_000_000 + 70_000))
    assert [slot.busy for slot in monitor.slots("m").values()] == [False]


@pytest.mark.parametrize("name", ["prompt_cache", "rates", "pinned"])
@pytest.mark.parametrize("way", WAYS)
def test_cached_and_evaluated_tokens_are_what_the_server_answered(name: str, way: str) -> None:
    found = recording(name)
    monitor, _ = replay(found.lines, way)
    counts = monitor.counts("m")
    cached, evaluated = (sum(request[part] for request in found.requests) for part in (0, 1))
    assert counts.processed_tokens == pytest.approx(evaluated, rel=0.02)
    assert counts.cached_tokens == pytest.approx(cached, rel=0.02, abs=len(found.requests))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("kv_exhausted", {"context_exceeded": 4}),
        ("context_shift", {"shifted": 6, "truncated": 2, "too_large": 1}),
        ("truncated", {"truncated": 2}),
        ("forged", {"failed": 1}),
    ],
)
@pytest.mark.parametrize("way", ["as they are", "joined", "split", "doubled", "over the server log"])
def test_what_went_wrong_is_counted_once_however_it_arrives(
    name: str, expected: dict[str, int], way: str
) -> None:
    monitor, _ = replay(recording(name).lines, way)
    counts = monitor.counts("m")
    names = ("context_exceeded", "shifted", "truncated", "too_large", "failed", "cancelled")
    assert {one: count for one in names if (count := getattr(counts, one))} == expected


def test_slots_and_context_are_those_the_engine_reports() -> None:
    monitor, _ = replay(recording("kv_exhausted").lines, "as they are")
    engine = monitor.engine("m")
    assert engine is not None
    assert (engine.n_slots, engine.context_per_slot, engine.kv_unified) == (None, None, None), "it has ended"
    monitor, _ = replay(recording("kv_exhausted").lines[:-1], "as they are")
    engine = monitor.engine("m")
    assert engine is not None
    assert (engine.n_slots, engine.context_per_slot, engine.kv_unified) == (4, 2048, True)
    assert {number: slot.context_tokens for number, slot in monitor.slots("m").items()} == {
        0: 549, 1: 541, 2: 557, 3: 554,
    }  # fmt: skip


def test_an_engine_that_has_ended_has_no_busy_slot() -> None:
    found = recording("ended")
    monitor, _ = replay(found.lines[:-1], "as they are")
    assert sum(slot.busy for slot in monitor.slots("m").values()) == 4
    monitor.add(runtime(found.lines[-1][1], found.lines[-1][0]))
    assert monitor.slots("m") == {}


FORGED = [
    "slot launch_slot_: id  1 | task 987654 | processing task, is_child = 0",
    "slot launch_slot_: id  1 | task 987654 | processing task, is_child = 1",
    "0.00.000.001 I slot launch_slot_: id  1 | task 987654 | processing task, is_child = 0",
    "999.00.000.001 I slot launch_slot_: id  1 | task 987654 | processing task, is_child = 0",
    "slot print_timing: id  1 | task 987654 | n_gen = 276, tg = 28.66 t/s, tg_3s = 30.85 t/s",
    "slot      release: id  0 | task 1 | stop processing: n_tokens = 1, truncated = 1",
    "srv  update_slots: all slots are idle",
    "srv    load_model: initializing, n_slots = 64, n_ctx_slot = 1, kv_unified = 'true'",
    "0.00.000.002 I srv    load_model: initializing, n_slots = 64, n_ctx_slot = 1, kv_unified = 'true'",
    "srv    operator(): operator(): cleaning up before exit...",
]


@pytest.mark.parametrize("line", FORGED)
@pytest.mark.parametrize("name", ["parallel", "sequential", "rates"])
def test_forged_lines_move_no_slot(name: str, line: str) -> None:
    lines = recording(name).lines
    _, expected = replay(lines, "as they are")
    mixed = [
        pair
        for number, (at, text) in enumerate(lines)
        for pair in ([(at, text), (at, line)] if number % 3 == 1 else [(at, text)])
    ]
    _, shown = replay(mixed, "as they are")
    assert shown[-1] == expected[-1]
    moved = [at for (at, state) in shown if state not in [s for t, s in expected if abs(t - at) <= 1]]
    if not line.startswith("0.00.000.002"):  # early in a run this stamp is as good as any
        assert moved == []


def test_a_launch_the_engine_could_not_do_frees_the_slot_even_if_a_forged_line_named_it() -> None:
    monitor = SlotMonitor()
    for at, line in enumerate(
        [
            "0.01.000.000 I slot get_availabl: id  2 | task -1 | selected slot by LRU, t_last = -1",
            "0.01.000.001 I slot launch_slot_: id  2 | task 987654 | processing task, is_child = 0",
            "0.01.000.002 E srv  process_sing: failed to launch slot with task, id_task = 13",
        ]
    ):
        monitor.add(runtime(line, 1000 + at))
    assert [slot.busy for slot in monitor.slots("m").values()] == [False]
