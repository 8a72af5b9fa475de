"""One engine over one channel: which lines are believed, what is shown and for how long, what is counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.pipeline.engine_state import EngineState
from exporter.pipeline.log_formats import engine
from exporter.pipeline.slot_state import RATE_WINDOW_MS
from tests.exporter.pipeline.engine_lines import DECODE, LAUNCH, NOW, PROMPT, RELEASE

START = "0.01.000.000 I srv    load_model: initializing, n_slots = 4, n_ctx_slot = 8192, kv_unified = 'false'"
IDLE = "srv  update_slots: all slots are idle"


def told(*lines: str | tuple[str, int], state: EngineState | None = None) -> EngineState:
    state = state or EngineState()
    for line in lines:
        text, at_ms = line if isinstance(line, tuple) else (line, NOW)
        found = engine.read(text)
        assert found is not None, text
        state.take(found, at_ms)
    return state


def stamped(line: str, seconds: float) -> str:
    return f"0.{int(seconds):02}.{round(seconds % 1 * 1000):03}.000 I {line}"


def select(slot: int, task: int = -1) -> str:
    return f"slot get_availabl: id  {slot} | task {task} | selected slot by LRU, t_last = -1"


def launch(slot: int, task: int, *, child: int = 0) -> str:
    return f"slot launch_slot_: id  {slot} | task {task} | processing task, is_child = {child}"


def release(slot: int, task: int, tokens: int = 10, truncated: int = 0) -> str:
    head = f"slot      release: id  {slot} | task {task} | "
    return f"{head}stop processing: n_tokens = {tokens}, truncated = {truncated}"


def timing(slot: int, task: int, prompt: int, generated: int) -> tuple[str, str]:
    head = f"slot print_timing: id  {slot} | task {task} | "
    return (
        f"{head}prompt eval time = 1.0 ms / {prompt} tokens",
        f"{head}       eval time = 1.0 ms / {generated} tokens",
    )


def busy(state: EngineState) -> dict[int, int]:
    return {number: slot.task for number, slot in state.slots(None).items() if slot.busy}


def test_an_engine_that_starts_has_idle_slots() -> None:
    state = told(START)
    assert (state.n_slots, state.context_per_slot, state.kv_unified) == (4, 8192, False)
    assert [slot.busy for slot in state.slots(None).values()] == [False] * 4


def test_a_slot_beyond_the_engines_number_of_slots_is_not_believed() -> None:
    state = told(
        START,
        stamped(select(4), 1),
        stamped(launch(4, 1), 1),
        stamped(select(3), 1),
        stamped(launch(3, 2), 1),
    )
    assert busy(state) == {3: 2}


def test_a_launch_is_believed_only_on_the_slot_selected_last_and_once() -> None:
    assert busy(told(select(1), launch(2, 7))) == {}
    assert busy(told(select(1), launch(1, 7), launch(2, 8))) == {1: 7}
    assert busy(told(select(2), select(1), launch(2, 8))) == {}
    assert busy(told(launch(2, 8))) == {2: 8}, "an engine that was never seen to select may not log it"


def test_a_busy_slot_that_is_asked_for_by_number_stays_busy() -> None:
    asked = "slot get_availabl: id  1 | task 7 | selected slot by id (1)"
    state = told(select(1), launch(1, 7), asked, launch(1, 8))
    assert busy(state) == {1: 7}
    assert busy(told(select(1), state=state)) == {}, "with task -1 it is idle: its release was missed"


def test_children_are_launched_before_the_slot_that_was_selected() -> None:
    state = told(select(3), launch(1, 255, child=1), launch(2, 256, child=1), launch(3, 254))
    assert busy(state) == {1: 255, 2: 256, 3: 254}


def test_children_of_a_request_that_is_not_launched_or_not_theirs_are_freed() -> None:
    assert busy(told(select(3), launch(1, 987654, child=1), launch(3, 254))) == {3: 254}
    assert busy(told(select(3), launch(1, 255, child=1), select(3))) == {}
    failed = "srv  process_sing: failed to launch slot with task, id_task = 254"
    assert busy(told(select(3), launch(1, 255, child=1), failed, launch(3, 254))) == {}
    assert busy(told(select(3), launch(3, 254, child=1))) == {}, "the slot selected is the parent's"
    assert busy(told(select(1), launch(1, 9), select(3), launch(1, 255, child=1), launch(3, 254))) == {
        1: 9,
        3: 254,
    }


@pytest.mark.parametrize(
    ("line", "at_ms", "believed"),
    [
        (launch(1, 7), NOW, False),
        (stamped(launch(1, 7), 10.0), NOW, True),
        (stamped(launch(1, 7), 5.0), NOW, True),
        (stamped(launch(1, 7), 4.9), NOW, False),
        (stamped(launch(1, 7), 15.0), NOW, True),
        (stamped(launch(1, 7), 15.1), NOW, False),
        (stamped(launch(1, 7), 45.0), NOW + 30_000, True),
        (stamped(launch(1, 7), 45.1), NOW + 30_000, False),
        (stamped(launch(1, 7), 4.9), NOW + 60_000, False),
        (stamped(launch(1, 7), 4.9), NOW + 60_001, True),
    ],
)
def test_a_stamp_lies_between_the_last_one_and_now(line: str, at_ms: int, believed: bool) -> None:  # noqa: FBT001
    state = told(stamped(IDLE, 10.0), (line, at_ms))
    assert busy(state) == ({1: 7} if believed else {})


def test_an_engine_starts_once_where_another_process_would_be_another_engine() -> None:
    again = START.replace("0.01", "0.00").replace("= 4", "= 8")
    running = [START, stamped(select(3), 1.5), stamped(launch(3, 1), 1.5)]
    one = EngineState()
    one.is_one_process = True
    assert busy(told(*running, again, state=one)) == {3: 1}
    assert one.n_slots == 4
    assert told(*running, again).n_slots == 8, "over the server log a restart shows by its stamp alone"
    assert told(*running, START.replace("0.01", "0.02").replace("= 4", "= 8")).n_slots == 4
    assert told(*running, again.removeprefix("0.00.000.000 I ")).n_slots == 4


def test_a_rate_is_shown_for_the_time_it_speaks_of() -> None:
    state = told(LAUNCH, DECODE)
    assert state.slots(NOW + RATE_WINDOW_MS)[0].tokens_per_second == 30.85
    assert state.slots(NOW + RATE_WINDOW_MS + 1)[0].tokens_per_second is None
    assert state.slots(NOW + RATE_WINDOW_MS)[0].prompt_progress == 1.0
    assert state.slots(NOW + RATE_WINDOW_MS + 1)[0].prompt_progress is None
    assert state.slots(NOW + 10**9)[0].busy


@pytest.mark.parametrize(("batch_ms", "shown_ms"), [(100, 3_000), (4_000, 6_000), (900_000, 30_000)])
def test_prompt_progress_is_shown_for_about_as_long_as_the_last_batch_took(
    batch_ms: int, shown_ms: int
) -> None:
    at_ms = NOW + batch_ms
    state = told(LAUNCH, (PROMPT, at_ms))
    assert state.slots(at_ms + shown_ms)[0].prompt_progress == 0.21
    assert state.slots(at_ms + shown_ms)[0].prefill_tokens_per_second == 898.87
    assert state.slots(at_ms + shown_ms + 1)[0].prompt_progress is None
    assert state.slots(at_ms + shown_ms + 1)[0].prefill_tokens_per_second is None


def test_the_context_of_a_slot_grows_with_its_prompt_and_what_it_generates() -> None:
    size = (
        "slot   operator(): id  0 | task 316 | new prompt, n_ctx_slot = 8192, n_keep = 0, task.n_tokens = 100"
    )
    state = told(LAUNCH, size, PROMPT)
    assert state.slots(None)[0].context_tokens == 14336
    assert told(DECODE, state=state).slots(None)[0].context_tokens == 376
    assert told(RELEASE, state=state).slots(None)[0].context_tokens == 3553
    assert told(LAUNCH, DECODE).slots(None)[0].context_tokens is None


def test_cached_tokens_are_what_the_prompt_did_not_evaluate() -> None:
    counts = told(launch(0, 1), *timing(0, 1, 100, 8), release(0, 1, 1319)).counts
    assert (counts.cached_tokens, counts.processed_tokens) == (1319 - 7 - 100, 100)
    size = (
        "slot   operator(): id  0 | task 1 | new prompt, n_ctx_slot = 8192, n_keep = 0, task.n_tokens = 150"
    )
    counts = told(launch(0, 1), size, *timing(0, 1, 100, 8), release(0, 1, 5, truncated=1)).counts
    assert (counts.cached_tokens, counts.processed_tokens, counts.truncated) == (50, 100, 1)
    counts = told(launch(0, 1), *timing(0, 1, 100, 8), release(0, 1, 200, truncated=1)).counts
    assert (counts.cached_tokens, counts.processed_tokens) == (0, 0), "not known of a truncated context"


def test_a_request_that_failed_and_is_cancelled_then_failed() -> None:
    state = told(
        "srv send_error: task id = 1, error: Context size has been exceeded.",
        "srv stop: cancel task, id_task = 1",
        "srv stop: cancel task, id_task = 2",
        "srv stop: cancel task, id_task = 2",
        "srv send_error: task id = 3, error: Con",
        "srv send_error: task id = 3, error: Context size has been exceeded.",
        "srv send_error: task id = 4, error: other",
    )
    assert (state.counts.context_exceeded, state.counts.cancelled, state.counts.failed) == (2, 1, 1)


def test_queue_time_is_measured_by_the_engines_own_stamps() -> None:
    defer = "srv  process_sing: no slot is available, defer task, id_task = {}"
    state = told(
        stamped(defer.format(7), 1.0),
        stamped(defer.format(8), 1.5),
        stamped(launch(0, 6), 2.0),
        stamped(launch(1, 7), 3.25),
    )
    assert state.queue_s == [0.0, 2.25]
    assert told(launch(0, 1)).queue_s == [], "an engine that does not log deferrals tells no queue time"


def test_queue_time_without_stamps_is_measured_by_the_daemons_clock() -> None:
    defer = "srv  process_sing: requested slot is unavailable, defer task, id_task = {}"
    state = told((defer.format(7), NOW), (defer.format(8), NOW + 100), (launch(0, 7), NOW + 400))
    assert state.queue_s == [0.4]
    told(("srv          stop: cancel task, id_task = 8", NOW + 500), (launch(1, 9), NOW + 600), state=state)
    assert state.queue_s == [0.4], "a cancelled task waits no longer"


def test_an_engine_that_starts_anew_has_nothing_waiting() -> None:
    defer = "srv  process_sing: no slot is available, defer task, id_task = 1"
    assert told(defer, START, launch(0, 1)).queue_s == []


def test_a_prediction_finds_the_cached_tokens_of_exactly_one_request() -> None:
    def requests(*shapes: tuple[int, int]) -> EngineState:
        state = EngineState()
        for task, (prompt, generated) in enumerate(shapes):
            told(launch(0, task), *timing(0, task, prompt, generated), release(0, task), state=state)
        return state

    assert requests((10, 5)).take_cached_tokens(100, 5, NOW) == 90
    assert requests((10, 5)).take_cached_tokens(100, 7, NOW) is None
    assert requests((10, 5)).take_cached_tokens(9, 5, NOW) is None
    assert requests((10, 5)).take_cached_tokens(100, 5, NOW + 30_001) is None
    assert requests((10, 5), (20, 5)).take_cached_tokens(100, 5, NOW) is None
    twice = requests((10, 5), (10, 5))
    assert [twice.take_cached_tokens(100, 5, NOW) for _ in range(3)] == [90, 90, None]
    restored = EngineState()
    restored.cache_restored(90, 10, NOW)
    assert restored.take_cached_tokens(50, 5, NOW) is None
    assert restored.take_cached_tokens(100, 5, NOW) == 90


ALL = [START, IDLE, LAUNCH, PROMPT, DECODE, RELEASE, select(0), select(1), launch(1, 2), launch(1, 3, child=1),
       release(1, 2), *timing(1, 2, 5, 6), stamped(LAUNCH, 3), stamped(IDLE, 50),
       "srv operator(): cleaning up before exit...",
       "srv process_sing: failed to launch slot with task, id_task = 2"]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(ALL), st.integers(0, 100_000)), max_size=60))
def test_any_order_of_lines_leaves_a_sound_state(lines: list[tuple[str, int]]) -> None:
    state = told(*((line, NOW + at) for line, at in lines))
    for slot in state.slots(None).values():
        assert slot.prompt_progress is None or 0 <= slot.prompt_progress <= 1
        assert slot.busy or (slot.prompt_progress is None and slot.tokens_per_second is None)
    assert len(busy(state)) <= 4
    assert all(getattr(state.counts, name) >= 0 for name in state.counts.__struct_fields__)
