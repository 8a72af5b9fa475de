"""Runs of slots: found by when they ended, each for one request, in bounded number."""

from exporter.pipeline.slot_runs import MOST_INSTANCES, MOST_RUNS, SlotRuns
from exporter.pipeline.slot_state import Slot

HERE = ("here", "qwen")


def slot(at_s: float, *, busy: bool) -> Slot:
    return Slot(busy=busy, task=1, progress_ms=round(at_s * 1000))


def run(runs: SlotRuns, number: int, from_s: float, until_s: float) -> None:
    runs.slots_changed(HERE, {number: slot(from_s, busy=True)})
    runs.slots_changed(HERE, {number: slot(from_s + 0.1, busy=True)})  # it got on
    runs.slots_changed(HERE, {number: slot(until_s, busy=False)})


def test_each_request_finds_the_run_that_ended_with_it_once() -> None:
    runs = SlotRuns()
    run(runs, 0, 100, 110)
    run(runs, 1, 105, 111)

    assert runs.launch_of(HERE, 111.2) == 105
    assert runs.launch_of(HERE, 111.2) == 100
    assert runs.launch_of(HERE, 111.2) is None


def test_a_run_that_ended_at_another_time_is_another_requests() -> None:
    runs = SlotRuns()
    run(runs, 0, 100, 110)

    assert runs.launch_of(HERE, 115) is None
    assert runs.launch_of(("here", "gpt"), 110) is None


def test_a_slot_whose_release_was_never_told_is_no_run() -> None:
    runs = SlotRuns()
    runs.slots_changed(HERE, {0: slot(100, busy=True)})
    runs.slots_changed(HERE, None)
    runs.slots_changed(HERE, {0: slot(110, busy=False)})

    assert runs.launch_of(HERE, 110) is None


def test_a_slot_that_goes_on_with_another_task_ends_one_run_and_begins_another() -> None:
    runs = SlotRuns()
    runs.slots_changed(HERE, {0: slot(100, busy=True)})
    runs.slots_changed(HERE, {0: Slot(busy=True, task=2, progress_ms=110_000)})
    runs.slots_changed(HERE, {0: Slot(busy=False, task=2, progress_ms=120_000)})

    assert (runs.launch_of(HERE, 110), runs.launch_of(HERE, 120)) == (100, 110)


def test_runs_that_no_request_claims_are_bounded() -> None:
    runs = SlotRuns()
    for second in range(MOST_RUNS + 1):
        run(runs, 0, 100 * second, 100 * second + 10)
    for instance in range(MOST_INSTANCES + 1):
        runs.slots_changed(("there", str(instance)), {0: slot(1, busy=True)})

    assert runs.launch_of(HERE, 10) is None
    assert len(runs._launched) <= MOST_INSTANCES
