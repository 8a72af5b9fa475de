"""Which requests run on which GPUs, when GPUs are read, and when a request learns its joules."""

import asyncio

import pytest

from exporter.hardware.attribution import InstanceShare, ProcessShare
from exporter.hardware.gpus import Device, GpuReading
from exporter.hardware.vendors import HostGpus
from exporter.llmster.state import ProcessingState
from exporter.pipeline.energy import EnergyLedger
from exporter.pipeline.energy_watch import BUSY_S, IDLE_S, MOST_WAIT_S, MOST_WAITING, EnergySink, EnergyWatch
from exporter.pipeline.predictions import Prediction
from exporter.pipeline.slot_state import Slot
from exporter.pipeline.vram import DaemonVram, Vram
from tests.exporter.pipeline.predicting import one
from tests.exporter.readings import instance, snapshot

QWEN = ("here", "qwen")
END_S = one("x").end_ns / 1e9


class Clock:
    """Monotonic time, and Unix time that runs with it."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def unix(self) -> float:
        return END_S - 100 + self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


Counted = list[tuple[str, str, str | None, float]]


@pytest.fixture
def counted() -> Counted:
    return []


@pytest.fixture
def watch(clock: Clock, counted: Counted) -> EnergyWatch:
    return EnergyWatch(
        count=lambda *what: counted.append(what),
        ledger=EnergyLedger(hold_s=0),
        unix_s=clock.unix,
        clock=clock,
    )


def reading(*watts: float) -> HostGpus:
    return HostGpus(
        {
            "amd": GpuReading(
                None, None, tuple(Device(i, vendor="amd", power_watts=w) for i, w in enumerate(watts))
            )
        }
    )


def placed(**gpus: dict[int, int]) -> Vram:
    shares = tuple(
        (key, InstanceShare(gpu, key, (ProcessShare(gpu, 1, None, size),)))
        for key, held in gpus.items()
        for gpu, size in held.items()
    )
    return Vram((DaemonVram("here", shares, {}, ()),))


def joules_by_gpu(watch: EnergyWatch) -> dict[int, float]:
    return {gpu: joules for (gpu, _), joules in watch.joules().items() if joules}


def working(count: int, *, since_s: float = END_S - 100) -> dict[int, Slot]:
    return {
        number: Slot(busy=number < count, task=1, progress_ms=round(since_s * 1000)) for number in range(4)
    }


def run_for(watch: EnergyWatch, clock: Clock, seconds: float, *watts: float) -> None:
    clock.now += seconds
    watch.observe(reading(*watts))


def test_slots_tell_how_many_run_and_snapshots_where_engines_tell_of_no_slots(
    watch: EnergyWatch, clock: Clock
) -> None:
    busy = ProcessingState(status="generating", queued=1)
    watch.observe(reading(100))
    watch.snapshot_taken(
        "here",
        snapshot(instance("1", model="qwen", processing=busy), instance("2", model="gpt", processing=busy)),
    )
    watch.slots_changed("here", "qwen", "qwen", working(3))
    run_for(watch, clock, 10, 100)

    assert watch.joules() == {(0, QWEN): pytest.approx(750), (0, ("here", "gpt")): pytest.approx(250)}


def test_an_engine_that_stops_telling_is_believed_no_longer(watch: EnergyWatch, clock: Clock) -> None:
    watch.observe(reading(100))
    watch.slots_changed("here", "qwen", "qwen", working(1))
    watch.slots_changed("here", "qwen", "qwen", None)
    run_for(watch, clock, 10, 100)

    assert joules_by_gpu(watch) == {}


def test_an_instance_that_is_gone_runs_nothing(watch: EnergyWatch, clock: Clock) -> None:
    watch.observe(reading(100))
    busy = ProcessingState(status="generating", queued=1)
    watch.snapshot_taken("here", snapshot(instance("1", model="qwen", processing=busy)))
    watch.snapshot_taken("here", snapshot())
    run_for(watch, clock, 10, 100)

    assert joules_by_gpu(watch) == {}


def test_a_model_uses_the_gpus_that_hold_it_and_not_those_with_the_engines_overhead(
    watch: EnergyWatch, clock: Clock
) -> None:
    watch.observe(reading(100, 100))
    watch.place(placed(qwen={0: 8000, 1: 300}))
    watch.slots_changed("here", "qwen", "qwen", working(1))
    run_for(watch, clock, 10, 100, 100)

    assert joules_by_gpu(watch) == {0: pytest.approx(1000)}


def test_a_model_whose_place_is_not_known_uses_all_gpus(watch: EnergyWatch, clock: Clock) -> None:
    watch.observe(reading(100, 50))
    watch.slots_changed("here", "qwen", "qwen", working(1))
    run_for(watch, clock, 10, 100, 50)

    assert joules_by_gpu(watch) == {0: pytest.approx(1000), 1: pytest.approx(500)}


def test_a_place_learnt_late_counts_from_then_on(watch: EnergyWatch, clock: Clock) -> None:
    watch.observe(reading(100, 100))
    watch.slots_changed("here", "qwen", "qwen", working(1))
    clock.now += 5
    watch.place(placed(qwen={1: 8000}))
    run_for(watch, clock, 5, 100, 100)

    assert joules_by_gpu(watch) == {0: pytest.approx(500), 1: pytest.approx(1000)}


def ending(watch: EnergyWatch, prediction: Prediction) -> list[Prediction]:
    got: list[Prediction] = []
    watch.request_ended(QWEN, prediction, got.append)
    return got


def test_a_request_learns_its_joules_once_its_last_moment_was_measured(
    watch: EnergyWatch, clock: Clock, counted: Counted
) -> None:
    clock.now = 80
    watch.observe(reading(100))
    clock.now = 90
    watch.slots_changed("here", "qwen", "qwen", working(1))
    run_for(watch, clock, 9.9, 100)
    clock.now = 100.1  # the request ended at 100.0
    watch.slots_changed("here", "qwen", "qwen", working(0))
    timed = one("x", time_to_first_token_s=2.0, predicted_tokens=80, tokens_per_second=10.0)
    got = ending(watch, timed)
    assert got == []

    run_for(watch, clock, 1, 100)

    assert [prediction.energy_joules for prediction in got] == [pytest.approx(1000)]
    ((*who, joules),) = counted
    assert who == ["here", "qwen", None]
    assert joules == pytest.approx(1000)


def test_the_time_a_request_waited_for_a_slot_is_not_its_own(watch: EnergyWatch, clock: Clock) -> None:
    clock.now = 50
    watch.observe(reading(100))
    clock.now = 96
    watch.slots_changed("here", "qwen", "m", working(1, since_s=END_S - 4))
    run_for(watch, clock, 3.9, 100)
    clock.now = 100
    watch.slots_changed("here", "qwen", "m", working(0, since_s=END_S))
    got = ending(watch, one("x", time_to_first_token_s=32.0, predicted_tokens=80, tokens_per_second=10.0))

    run_for(watch, clock, 1, 100)

    assert [prediction.energy_joules for prediction in got] == [pytest.approx(400)]


def test_a_request_without_a_duration_or_a_gpu_does_not_wait(watch: EnergyWatch) -> None:
    timed = one("x", time_to_first_token_s=2.0, predicted_tokens=80, tokens_per_second=10.0)
    assert [prediction.energy_joules for prediction in ending(watch, timed)] == [None]


def test_a_request_waits_no_longer_than_it_may(watch: EnergyWatch, clock: Clock, counted: Counted) -> None:
    watch.observe(reading(100))
    got = ending(watch, one("x", time_to_first_token_s=2.0, predicted_tokens=80, tokens_per_second=10.0))
    clock.now += MOST_WAIT_S
    watch.observe(HostGpus())

    assert [prediction.energy_joules for prediction in got] == [None]
    assert counted == []


def test_no_more_requests_wait_than_may_and_the_end_hands_all_on(watch: EnergyWatch) -> None:
    watch.observe(reading(100))
    prediction = one("x", time_to_first_token_s=2.0, predicted_tokens=80, tokens_per_second=10.0)
    got: list[Prediction] = []
    for _ in range(MOST_WAITING + 5):
        watch.request_ended(QWEN, prediction, got.append)
    assert len(got) == 5

    watch.close()

    assert len(got) == MOST_WAITING + 5


class Failing:
    name = "failing"

    def take_prediction(self, _prediction: Prediction) -> None:
        raise ZeroDivisionError

    def take_log(self, _event: object) -> None:
        return None


def test_a_sink_that_fails_costs_its_item_only(watch: EnergyWatch, caplog: pytest.LogCaptureFixture) -> None:
    sink = EnergySink("here", watch, model_key=str, then=Failing())
    for _ in range(2):
        sink.take_prediction(one("x"))
    assert [record.message for record in caplog.records] == ["sink lost an item"]


class Reads:
    """Counts readings, and ends the loop after enough of them."""

    def __init__(self, watch: EnergyWatch, clock: Clock, enough: int) -> None:
        self.at: list[float] = []
        self._watch = watch
        self._clock = clock
        self._enough = enough

    async def __call__(self) -> None:
        self.at.append(self._clock.now)
        if len(self.at) == self._enough:
            raise asyncio.CancelledError
        self._watch.observe(reading(100))


@pytest.mark.parametrize(("running", "seconds"), [(1, BUSY_S), (0, IDLE_S)])
def test_gpus_are_read_more_often_while_a_request_runs(
    watch: EnergyWatch, clock: Clock, running: int, seconds: float
) -> None:
    watch.observe(reading(100))
    watch.slots_changed("here", "qwen", "qwen", working(running))
    clock.now += seconds / 2

    assert watch.due_s() == pytest.approx(seconds / 2)


async def test_what_is_due_is_read(watch: EnergyWatch, clock: Clock) -> None:
    watch.observe(reading(100))
    watch.slots_changed("here", "qwen", "qwen", working(1))
    clock.now += BUSY_S
    reads = Reads(watch, clock, enough=1)

    with pytest.raises(asyncio.CancelledError):
        await watch.run(reads)

    assert reads.at == [BUSY_S]


def test_gpus_are_left_alone_where_nothing_was_seen_of_them_and_nothing_runs(watch: EnergyWatch) -> None:
    assert watch.due_s() is None
