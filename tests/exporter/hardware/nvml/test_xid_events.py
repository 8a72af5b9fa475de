"""XID errors, as the fake library streams them to the watching thread."""

import logging
import queue
from collections.abc import Iterator

import pytest

from exporter.hardware.nvml.source import NvmlSource
from exporter.hardware.nvml.xid_events import XidWatcher
from tests.fake_nvml import FakeHost

FIRST, SECOND = (f"GPU-00000000-0000-0000-0000-{index:012d}" for index in range(2))
LIMIT_S = 20.0


class Reports(logging.Handler):
    """The watcher logs every XID once it is counted: that is what a test waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.put(record)

    def wait(self, count: int) -> None:
        for _ in range(count):
            self.records.get(timeout=LIMIT_S)


@pytest.fixture
def reports() -> Iterator[Reports]:
    handler = Reports()
    logger = logging.getLogger("exporter.hardware.nvml.xid_events")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def source(host: FakeHost) -> Iterator[NvmlSource]:
    host.describe("count 2")
    source = NvmlSource(xids=XidWatcher(wait_ms=10))
    yield source
    source.close()


def test_xids_are_counted_per_gpu_and_number(host: FakeHost, source: NvmlSource, reports: Reports) -> None:
    source.read()
    assert source.xid_counts() == {}
    host.add("xid 0 79 1", "xid 1 31 2", "xid 1 31 3")
    reports.wait(3)
    assert source.xid_counts() == {(FIRST, 79): 1, (SECOND, 31): 2}


def test_counts_survive_a_reload_of_the_driver(host: FakeHost, source: NvmlSource, reports: Reports) -> None:
    source.read()
    host.add("xid 0 79 1")
    reports.wait(1)
    host.add("epoch 2")
    source.read()
    host.add("xid 0 79 2")
    reports.wait(1)
    assert source.xid_counts() == {(FIRST, 79): 2}


def test_gpus_that_cannot_report_xids_leave_the_count_absent(host: FakeHost, source: NvmlSource) -> None:
    host.add("gpu all event_types unsupported")
    source.read()
    assert source.xid_counts() is None
    assert host.calls("nvmlEventSetWait_v2") == 0
    assert host.calls("nvmlEventSetFree") == 1


def test_one_gpu_that_refuses_to_register_does_not_blind_the_others(
    host: FakeHost, source: NvmlSource, reports: Reports
) -> None:
    host.add("gpu 0 register_events error:999")
    source.read()
    host.add("xid 0 79 1", "xid 1 48 2")
    reports.wait(1)
    assert source.xid_counts() == {(SECOND, 48): 1}


def test_a_gpu_lost_while_waiting_does_not_end_the_watch(
    host: FakeHost, source: NvmlSource, reports: Reports
) -> None:
    host.add("gpu all event_wait error:15")
    source.read()
    host.describe("count 2", "xid 1 48 1")
    reports.wait(1)
    assert source.xid_counts() == {(SECOND, 48): 1}


def test_nothing_is_counted_before_the_first_read(source: NvmlSource) -> None:
    assert source.xid_counts() is None
