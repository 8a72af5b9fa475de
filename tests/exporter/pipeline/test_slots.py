"""Slots: followed from launch to release, whichever log tells, and forgotten with their instance."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.llmster.events import parse_message
from exporter.pipeline.slot_state import Slot
from exporter.pipeline.slots import MAX_INSTANCES, SlotMonitor
from tests.exporter.pipeline.engine_lines import (
    DECODE,
    ENGINE_LINES,
    LAUNCH,
    NOW,
    PROMPT,
    RELEASE,
    monitor,
    runtime,
    server,
)

FIXTURES = Path(__file__).parents[2] / "fixtures" / "protocol"


def test_a_task_is_followed_from_launch_to_release() -> None:
    slots = SlotMonitor()
    slots.add(runtime(LAUNCH, NOW))
    assert slots.slots("m") == {0: Slot(busy=True, task=316, progress_ms=NOW)}
    slots.add(runtime(PROMPT, NOW + 1))
    shown = slots.slots("m")[0]
    assert (shown.prompt_progress, shown.prefill_tokens_per_second, shown.context_tokens) == (
        0.21,
        898.87,
        14336,
    )
    slots.add(runtime(DECODE, NOW + 2))
    assert slots.slots("m") == {
        0: Slot(busy=True, task=316, prompt_progress=1.0, tokens_per_second=30.85, progress_ms=NOW + 2)
    }
    slots.add(runtime(RELEASE, NOW + 3))
    assert slots.slots("m") == {0: Slot(busy=False, task=316, context_tokens=3553, progress_ms=NOW + 3)}
    assert slots.last_progress_ms("m") == NOW + 3


def test_captured_stream_launches_slot_two() -> None:
    slots = SlotMonitor()
    for line in (FIXTURES / "10-streamLogs.jsonl").read_text().splitlines():
        record = json.loads(line)
        frame = json.loads(record["data"]) if record["dir"] == "s2c" and record["op"] == "text" else {}
        if frame.get("type") == "channelSend":
            slots.add(parse_message(json.dumps(frame["message"])))
    assert slots.slots("qwen/qwen3-8b") == {2: Slot(busy=True, task=6, progress_ms=NOW)}


PROMPTED = Slot(
    busy=True,
    task=316,
    prompt_progress=0.21,
    prefill_tokens_per_second=898.87,
    context_tokens=14336,
    progress_ms=NOW,
)


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n" + "x" * 600])
def test_an_event_of_an_engine_may_hold_several_lines_and_end_in_any_way(end: str) -> None:
    assert monitor(runtime(f"{LAUNCH}\n{PROMPT}{end}")).slots("m") == {0: PROMPTED}
    assert monitor(server(f"{LAUNCH}\n{PROMPT}{end}", bracket="[m]")).slots("m") == {0: PROMPTED}


def test_a_line_longer_than_any_of_the_engine_is_not_cut_to_fit() -> None:
    assert monitor(runtime(LAUNCH + " " * (512 - len(LAUNCH)))).instances() == ["m"]
    assert monitor(runtime(LAUNCH + " " * (513 - len(LAUNCH)))).instances() == []


def test_nothing_told_is_nothing_known_and_never_zero() -> None:
    slots = monitor(
        runtime("Loading model weights"), runtime("slot print_timing: id  0 | task 1 | n_new = 3")
    )
    assert slots.slots("m") == {}
    assert slots.instances() == []
    assert slots.last_progress_ms("m") is None


def test_progress_and_rate_of_a_task_do_not_outlive_it() -> None:
    slots = monitor(
        runtime(LAUNCH), runtime(PROMPT), runtime(DECODE), runtime(LAUNCH.replace("316", "317"), NOW + 9)
    )
    assert slots.slots("m") == {0: Slot(busy=True, task=317, progress_ms=NOW + 9)}


def test_all_slots_idle_frees_every_slot() -> None:
    slots = monitor(
        runtime(LAUNCH),
        runtime(LAUNCH.replace("id  0", "id  1").replace("316", "317")),
        runtime("srv  update_slots: all slots are idle", NOW + 5),
    )
    assert slots.slots("m") == {
        0: Slot(busy=False, task=316, progress_ms=NOW + 5),
        1: Slot(busy=False, task=317, progress_ms=NOW + 5),
    }
    slots.add(runtime("srv  update_slots: all slots are idle", NOW + 9))
    assert slots.last_progress_ms("m") == NOW + 5


def test_all_slots_idle_of_an_engine_that_told_nothing_else_tells_nothing() -> None:
    assert monitor(runtime("srv  update_slots: all slots are idle")).instances() == []


def test_a_slot_that_generates_has_its_whole_prompt_behind_it() -> None:
    slots = monitor(runtime(LAUNCH), runtime(DECODE))
    assert slots.slots("m") == {
        0: Slot(busy=True, task=316, prompt_progress=1.0, tokens_per_second=30.85, progress_ms=NOW)
    }


def test_without_a_recent_rate_the_mean_is_shown_and_progress_is_at_most_whole() -> None:
    mean = "slot print_timing: id  0 | task 316 | n_decoded =    276, tg =  28.66 t/s"
    assert monitor(runtime(LAUNCH), runtime(mean)).slots("m")[0].tokens_per_second == 28.66
    beyond = monitor(runtime(LAUNCH), runtime(PROMPT.replace("0.21", "1.21")))
    assert beyond.slots("m")[0].prompt_progress == 1.0


@pytest.mark.parametrize("lag_ms", [0, 5, 900])
def test_a_line_that_comes_both_ways_counts_once(lag_ms: int) -> None:
    lines = [LAUNCH, PROMPT, DECODE, RELEASE]
    once = monitor(*(runtime(line, NOW + i) for i, line in enumerate(lines)))
    twice = monitor(
        *(runtime(line, NOW + i) for i, line in enumerate(lines)),
        *(server(line, NOW + i + lag_ms) for i, line in enumerate(lines)),
    )
    interleaved = SlotMonitor()
    for i, line in enumerate(lines):
        interleaved.add(server(line, NOW + i))
        interleaved.add(runtime(line, NOW + i))
    assert once.slots("m") == twice.slots("m") == interleaved.slots("m")
    assert twice.unattributed == 0


def test_copies_of_an_earlier_task_do_not_disturb_the_next() -> None:
    following = LAUNCH.replace("316", "317")
    slots = monitor(
        *map(runtime, (LAUNCH, RELEASE, following)), *map(server, (LAUNCH, DECODE, RELEASE, following))
    )
    assert slots.slots("m") == {0: Slot(busy=True, task=317, progress_ms=NOW)}


def test_tasks_need_not_be_launched_in_the_order_of_their_numbers() -> None:
    earlier = LAUNCH.replace("316", "315")
    assert monitor(runtime(LAUNCH), runtime(RELEASE), runtime(earlier, NOW + 1)).slots("m")[0].task == 315


def test_a_line_about_a_task_that_was_never_launched_on_a_known_slot_is_not_believed() -> None:
    slots = monitor(runtime(LAUNCH), runtime(RELEASE), runtime(DECODE.replace("316", "317"), NOW + 1))
    assert slots.slots("m")[0].busy is False


def test_a_late_second_launch_of_a_running_task_changes_nothing() -> None:
    slots = monitor(runtime(LAUNCH), runtime(PROMPT), runtime(LAUNCH, NOW + 20_000))
    assert slots.slots("m", NOW) == {0: PROMPTED}


def test_a_straggling_line_does_not_turn_progress_back_in_time() -> None:
    slots = monitor(runtime(LAUNCH, NOW), runtime(PROMPT, NOW - 3))
    assert slots.last_progress_ms("m") == NOW


def test_server_log_alone_is_enough_when_it_names_the_instance() -> None:
    slots = monitor(server(LAUNCH, bracket="[qwen/qwen3-8b]"))
    assert slots.slots("qwen/qwen3-8b") == {0: Slot(busy=True, task=316, progress_ms=NOW)}


def test_a_line_without_instance_belongs_to_the_only_loaded_one() -> None:
    slots = SlotMonitor()
    slots.keep_only({"m"})
    slots.add(server(LAUNCH))
    assert slots.slots("m") == {0: Slot(busy=True, task=316, progress_ms=NOW)}
    slots.add(server(PROMPT, bracket="[LM STUDIO SERVER]"))
    assert slots.slots("m")[0].prompt_progress == 0.21
    slots.keep_only({"m", "n"})
    slots.add(server(DECODE))
    slots.add(server(DECODE, bracket="[LM STUDIO SERVER]"))
    assert slots.unattributed == 2


def test_a_line_without_instance_is_not_guessed_among_several() -> None:
    slots = monitor(
        runtime(LAUNCH, model="a", ref="ra"), runtime(LAUNCH, model="b", ref="rb"), server(DECODE)
    )
    assert [slots.slots(name)[0].tokens_per_second for name in ("a", "b")] == [None, None]
    assert slots.unattributed == 1


def test_a_line_that_names_only_its_process_finds_its_instance() -> None:
    slots = monitor(runtime(LAUNCH), runtime(DECODE, model=None))
    assert slots.slots("m")[0].tokens_per_second == 30.85


def test_a_process_may_be_known_by_its_pid_alone() -> None:
    slots = monitor(
        runtime(LAUNCH, ref=None),
        runtime(LAUNCH, model="n", ref=None, pid=8),
        runtime(DECODE, model=None, ref=None, pid=8),
    )
    assert [slots.slots(name)[0].tokens_per_second for name in ("m", "n")] == [None, 30.85]


def test_a_line_that_names_neither_instance_nor_process_is_nobodys() -> None:
    slots = monitor(runtime(LAUNCH, ref=None, pid=None), runtime(DECODE, model=None, ref=None, pid=None))
    assert slots.slots("m")[0].tokens_per_second is None
    assert slots.unattributed == 1


def test_the_process_of_an_instance_that_is_gone_is_forgotten_and_no_other() -> None:
    slots = monitor(runtime(LAUNCH), runtime(LAUNCH, model="n", ref="s"))
    slots.forget("m")
    slots.add(runtime(DECODE, model=None))
    slots.add(runtime(DECODE, model=None, ref="s"))
    assert slots.instances() == ["n"]
    assert slots.slots("n")[0].tokens_per_second == 30.85
    assert slots.unattributed == 1


def test_a_restarted_engine_counts_its_tasks_anew() -> None:
    slots = monitor(runtime(LAUNCH), runtime(LAUNCH.replace("316", "0"), NOW + 1, ref="other"))
    assert slots.slots("m") == {0: Slot(busy=True, task=0, progress_ms=NOW + 1)}
    silent = monitor(server(LAUNCH, bracket="[m]"), server(RELEASE, bracket="[m]"))
    silent.add(server(LAUNCH.replace("316", "0"), NOW + 1, bracket="[m]"))
    assert silent.slots("m")[0].task == 0


def test_an_instance_that_is_gone_leaves_nothing() -> None:
    slots = monitor(runtime(LAUNCH), runtime(LAUNCH, model="n", ref="s"))
    slots.forget("m")
    assert slots.instances() == ["n"]
    slots.keep_only(set())
    assert slots.instances() == []
    slots.forget("never there")


def test_nothing_is_known_any_more_after_a_gap() -> None:
    slots = monitor(runtime(LAUNCH), runtime(LAUNCH, model="n", ref="s"))
    slots.forget_all()
    slots.add(runtime(DECODE, model=None))
    assert slots.instances() == []
    assert slots.unattributed == 1


def test_slots_and_instances_are_bounded() -> None:
    slots = SlotMonitor()
    for i in range(MAX_INSTANCES + 50):
        slots.add(runtime(LAUNCH, model=f"m{i}", ref=f"r{i}"))
        slots.add(runtime(LAUNCH.replace("id  0", f"id {500 + i}"), model=f"m{i}", ref=f"r{i}"))
    assert len(slots.instances()) == MAX_INSTANCES
    assert len(slots._engines) <= 2 * MAX_INSTANCES
    last = f"m{MAX_INSTANCES + 49}"
    assert slots.instances()[-1] == last
    slots.add(runtime(LAUNCH.replace("id  0", "id 511"), model=last, ref="other"))
    slots.add(runtime(LAUNCH.replace("id  0", "id 512"), model=last, ref="other"))
    assert set(slots.slots(last)) == {511}
    assert all(number < 512 for name in slots.instances() for number in slots.slots(name))


def test_processes_of_an_engine_that_keeps_restarting_are_bounded() -> None:
    slots = SlotMonitor()
    for i in range(2 * MAX_INSTANCES + 1):
        slots.add(runtime(LAUNCH, ref=f"r{i}"))
    assert len(slots._engines) == 2 * MAX_INSTANCES
    slots.add(runtime(DECODE, model=None, ref="r0"))
    assert slots.unattributed == 1
    slots.add(runtime(DECODE, model=None, ref=f"r{2 * MAX_INSTANCES}"))
    assert slots.slots("m")[0].tokens_per_second == 30.85


def test_a_crashed_instance_has_no_slots() -> None:
    slots = monitor(runtime(LAUNCH))
    slots.add(runtime("The model has crashed without additional information. (Exit code: 139)"))
    assert slots.instances() == []


@given(st.lists(st.sampled_from(ENGINE_LINES[:5]), max_size=30))
def test_any_order_of_lines_leaves_a_sound_state(lines: list[str]) -> None:
    slots = monitor(*(runtime(line, NOW + i) for i, line in enumerate(lines)))
    for slot in slots.slots("m").values():
        assert slot.prompt_progress is None or 0 <= slot.prompt_progress <= 1
        assert slot.busy or (slot.prompt_progress is None and slot.tokens_per_second is None)


def test_changes_of_how_many_slots_work_are_told_and_nothing_else() -> None:
    told: list[tuple[str, int | None]] = []
    slots = monitor()
    slots.busy_changed = lambda instance, changed: told.append(
        (instance, None if changed is None else sum(slot.busy for slot in changed.values()))
    )
    for line in (
        "slot launch_slot_: id  0 | task 1 | processing task",
        "slot launch_slot_: id  0 | task 1 | processing task",
        "slot print_timing: id  0 | task 1 | n_gen = 27, tg = 28.66 t/s, tg_3s = 30.85 t/s",
        "slot launch_slot_: id  1 | task 2 | processing task",
        "slot      release: id  0 | task 1 | stop processing: n_tokens = 3553, truncated = 0",
        "srv  update_slots: all slots are idle",
        "srv  update_slots: all slots are idle",
    ):
        slots.add(runtime(line))
    slots.forget_all()

    (instance,) = {instance for instance, _ in told}
    assert told == [(instance, 1), (instance, 2), (instance, 1), (instance, 0), (instance, None)]
