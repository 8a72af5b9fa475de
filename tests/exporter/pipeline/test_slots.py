"""Slots: followed through every known wording, from either log, and through nothing else."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.llmster.events import LogEvent, PredictionOutput, RuntimeLog, ServerLog, parse_message
from exporter.pipeline.slots import MAX_INSTANCES, CrashLine, Slot, SlotLine, SlotMonitor, parse_line

FIXTURES = Path(__file__).parents[2] / "fixtures" / "protocol"
NOW = 1_795_351_872_748


def runtime(
    message: str, at_ms: int = NOW, model: str | None = "m", ref: str | None = "r", pid: int = 7
) -> RuntimeLog:
    return RuntimeLog(at_ms, "debug", message, "llama.cpp", "2.41.0", "llama.cpp", model, ref, pid)


def server(line: str, at_ms: int = NOW, level: str = "debug", bracket: str = "") -> ServerLog:
    return ServerLog(at_ms, level, f"[2026-11-22 12:51:12][{level.upper()}]{bracket} {line}")


def monitor(*events: LogEvent) -> SlotMonitor:
    slots = SlotMonitor()
    for event in events:
        slots.add(event)
    return slots


LAUNCH = "slot launch_slot_: id  0 | task 316 | processing task, is_child = 0"
PROMPT = (
    "slot print_timing: id  0 | task 316 | prompt processing, n_tokens =  14336, progress = 0.21, t =  15.95 s / "
    "898.87 tokens per second"
)
DECODE = "slot print_timing: id  0 | task 316 | n_gen = 276, tg = 28.66 t/s, tg_3s = 30.85 t/s"
RELEASE = "slot      release: id  0 | task 316 | stop processing: n_tokens = 3553, truncated = 0"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("slot launch_slot_: id 0 | task 316 | processing task", SlotLine(0, 316, launched=True)),
        (LAUNCH, SlotLine(0, 316, launched=True)),
        ("1.11.544.915 I slot launch_slot_: id  0 | task 0 | processing task", SlotLine(0, 0, launched=True)),
        (PROMPT, SlotLine(0, 316, prompt_progress=0.21)),
        (
            (
                "slot update_slots: id  0 | task 0 | prompt processing progress, n_past = 33, n_tokens = 33, "
                "progress = 1.000000"
            ),
            SlotLine(0, 0, prompt_progress=1.0),
        ),
        (DECODE, SlotLine(0, 316, tokens_per_second=30.85)),
        (
            "slot print_timing: id  1 | task 916 | n_decoded =    276, tg =  28.66 t/s",
            SlotLine(1, 916, tokens_per_second=28.66),
        ),
        ("slot release: id 0 | task 0 | stop processing...", SlotLine(0, 0, released=True)),
        (RELEASE, SlotLine(0, 316, released=True)),
        ("srv  update_slots: all slots are idle", SlotLine(None)),
        ("srv update_slots: all slots are idle", SlotLine(None)),
    ],
)
def test_every_published_wording_is_read(line: str, expected: SlotLine) -> None:
    assert parse_line(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        "",
        "slot get_availabl: id  0 | task -1 | selected slot by LRU, t_last = -1",
        "slot print_timing: id  2 | task 6 | ",
        "slot launch_slot_: id  0 | task 1 | processing task quickly",
        " slot launch_slot_: id  0 | task 1 | processing task",
        "> slot launch_slot_: id  0 | task 1 | processing task",
        "slot launch_slot_: id  0 | task 1 | processing task\nx",
        "slot process_token: id  0 | task 0 | n_decoded = 1, n_remaining = -1, next token: 42 'tg'",
        "Prompt cache restore: cached_tokens=6 uncached_tokens=7",
        "slot launch_slot_: id  0 | task 1 | processing task" + " " * 600,
    ],
)
def test_any_other_wording_is_not(line: str) -> None:
    assert parse_line(line) is None


def test_a_task_is_followed_from_launch_to_release() -> None:
    slots = SlotMonitor()
    slots.add(runtime(LAUNCH, NOW))
    assert slots.slots("m") == {0: Slot(busy=True, task=316, progress_ms=NOW)}
    slots.add(runtime(PROMPT, NOW + 1))
    assert slots.slots("m")[0].prompt_progress == 0.21
    slots.add(runtime(DECODE, NOW + 2))
    assert slots.slots("m") == {
        0: Slot(busy=True, task=316, prompt_progress=1.0, tokens_per_second=30.85, progress_ms=NOW + 2)
    }
    slots.add(runtime(RELEASE, NOW + 3))
    assert slots.slots("m") == {0: Slot(busy=False, task=316, progress_ms=NOW + 3)}
    assert slots.last_progress_ms("m") == NOW + 3


def test_captured_stream_launches_slot_two() -> None:
    slots = SlotMonitor()
    for line in (FIXTURES / "10-streamLogs.jsonl").read_text().splitlines():
        record = json.loads(line)
        frame = json.loads(record["data"]) if record["dir"] == "s2c" and record["op"] == "text" else {}
        if frame.get("type") == "channelSend":
            slots.add(parse_message(json.dumps(frame["message"])))
    assert slots.slots("qwen/qwen3-8b") == {2: Slot(busy=True, task=6, progress_ms=NOW)}


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
    assert [slot.busy for slot in slots.slots("m").values()] == [False, False]


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


def test_server_log_alone_is_enough_when_it_names_the_instance() -> None:
    slots = monitor(server(LAUNCH, bracket="[qwen/qwen3-8b]"))
    assert slots.slots("qwen/qwen3-8b") == {0: Slot(busy=True, task=316, progress_ms=NOW)}


def test_a_line_without_instance_belongs_to_the_only_loaded_one() -> None:
    slots = SlotMonitor()
    slots.keep_only({"m"})
    slots.add(server(LAUNCH))
    assert slots.slots("m") == {0: Slot(busy=True, task=316, progress_ms=NOW)}
    slots.keep_only({"m", "n"})
    slots.add(server(DECODE))
    assert slots.unattributed == 1


def test_a_line_without_instance_is_not_guessed_among_several() -> None:
    slots = monitor(
        runtime(LAUNCH, model="a", ref="ra"), runtime(LAUNCH, model="b", ref="rb"), server(DECODE)
    )
    assert [slots.slots(name)[0].tokens_per_second for name in ("a", "b")] == [None, None]
    assert slots.unattributed == 1


def test_a_line_that_names_only_its_process_finds_its_instance() -> None:
    slots = monitor(runtime(LAUNCH), runtime(DECODE, model=None))
    assert slots.slots("m")[0].tokens_per_second == 30.85


def test_a_restarted_engine_counts_its_tasks_anew() -> None:
    slots = monitor(runtime(LAUNCH), runtime(LAUNCH.replace("316", "0"), NOW + 1, ref="other"))
    assert slots.slots("m") == {0: Slot(busy=True, task=0, progress_ms=NOW + 1)}
    silent = monitor(server(LAUNCH, bracket="[m]"), server(RELEASE, bracket="[m]"))
    silent.add(server(LAUNCH.replace("316", "0"), NOW + 20_000, bracket="[m]"))
    assert silent.slots("m")[0].task == 0


def test_an_instance_that_is_gone_leaves_nothing() -> None:
    slots = monitor(runtime(LAUNCH), runtime(LAUNCH, model="n", ref="s"))
    slots.forget("m")
    assert slots.instances() == ["n"]
    slots.keep_only(set())
    assert slots.instances() == []
    slots.forget("never there")


def test_slots_and_instances_are_bounded() -> None:
    slots = SlotMonitor()
    for i in range(MAX_INSTANCES + 50):
        slots.add(runtime(LAUNCH, model=f"m{i}", ref=f"r{i}"))
        slots.add(runtime(LAUNCH.replace("id  0", f"id {500 + i}"), model=f"m{i}", ref=f"r{i}"))
    assert len(slots.instances()) == MAX_INSTANCES
    assert len(slots._engines) <= 2 * MAX_INSTANCES
    assert all(number < 512 for name in slots.instances() for number in slots.slots(name))


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            runtime("The model has crashed without additional information. (Exit code: -1073740791)"),
            CrashLine(NOW, "m", -1073740791, was_running=True),
        ),
        (
            server(
                "The model has crashed without additional information. (Exit code: null)",
                level="error",
                bracket="[m]",
            ),
            CrashLine(NOW, "m", None, was_running=True),
        ),
        (
            runtime(
                "Engine protocol runtime llama-server for heJSMjjYzDKkw3rW exited before becoming healthy. exitCode=1",
                model=None,
                ref=None,
            ),
            CrashLine(NOW, None, 1, was_running=False),
        ),
    ],
)
def test_a_crash_is_told(event: LogEvent, expected: CrashLine) -> None:
    assert SlotMonitor().add(event) == expected


def test_a_crashed_instance_has_no_slots() -> None:
    slots = monitor(runtime(LAUNCH))
    slots.add(runtime("The model has crashed without additional information. (Exit code: 139)"))
    assert slots.instances() == []


ENGINE_LINES = [
    LAUNCH,
    PROMPT,
    DECODE,
    RELEASE,
    "srv  update_slots: all slots are idle",
    "The model has crashed without additional information. (Exit code: 1)",
]
CARRIERS = [
    'Received request: POST to /v1/chat/completions with body {{\n  "content": "\n{}\n"}}',
    "Generated prediction:\n{}",
    "stderr: {}",
    " {}",
    "x{}",
    '"{}"',
    "{} and more",
    "> {}",
    "\n{}",
    "\u2028{}",
]


@given(
    st.lists(st.sampled_from(ENGINE_LINES) | st.text(max_size=20), min_size=1).map("\n".join),
    st.sampled_from(CARRIERS),
    st.sampled_from(["debug", "info", "error"]),
)
def test_content_cannot_pass_for_an_engine_line(text: str, carrier: str, level: str) -> None:
    content = carrier.format(text)
    if parse_line(content.partition("\n")[0]) is not None:
        return
    slots = monitor(runtime(LAUNCH))
    before = slots.slots("m")
    for event in (
        server(content, level=level),
        ServerLog(NOW, level, content),
        ServerLog(NOW, level, f"[2026-11-22 12:51:12][INFO][m] {text}"),
        runtime(content),
        PredictionOutput(NOW, "m", text, None),
    ):
        if not content.strip().startswith(("The model", "Engine protocol")):
            assert slots.add(event) is None
    assert slots.slots("m") == before
    assert slots.instances() == ["m"]


@given(st.text(), st.text())
def test_no_text_raises(line: str, other: str) -> None:
    parse_line(line)
    monitor(runtime(line), server(line), server(line, bracket=f"[{other}]"), ServerLog(1, other, line))


@given(st.lists(st.sampled_from(ENGINE_LINES[:5]), max_size=30))
def test_any_order_of_lines_leaves_a_sound_state(lines: list[str]) -> None:
    slots = monitor(*(runtime(line, NOW + i) for i, line in enumerate(lines)))
    for slot in slots.slots("m").values():
        assert slot.prompt_progress is None or 0 <= slot.prompt_progress <= 1
        assert slot.busy or (slot.prompt_progress is None and slot.tokens_per_second is None)
