"""Slots show while their stream is open and their daemon answers, and never from before a gap."""

from exporter.catalogue import log_stream as m
from exporter.collectors import slots
from exporter.collectors.base import Samples, Scrape
from exporter.collectors.prediction_metrics import PredictionMetrics, Stream
from exporter.llmster.client import DaemonClient
from exporter.pipeline.log_stream import EventFlow, Tailer
from exporter.pipeline.predictions import PredictionBuilder
from tests.exporter.pipeline.engine_lines import LAUNCH, runtime
from tests.exporter.readings import NOW_S, snapshot, watched


def busy_slots(flow: EventFlow, *, readable: bool = True) -> int:
    daemon = watched(snapshot() if readable else None)
    stream = Stream("local", flow, PredictionMetrics("local"), lambda identifier: identifier)
    out = Samples()
    slots.collect(Scrape(now_s=NOW_S, daemons=(daemon,), streams=(stream,)), out)
    return sum(len(family.samples) for family in out.collect() if family.name == m.SLOT_BUSY.name)


def working() -> EventFlow:
    flow = EventFlow(PredictionBuilder("local"), [])
    flow.counts.up = True
    flow.take(runtime(LAUNCH))
    return flow


def test_a_slot_shows_while_its_stream_is_open_and_its_daemon_answers() -> None:
    flow = working()
    assert busy_slots(flow) == 1
    assert busy_slots(flow, readable=False) == 0
    flow.counts.up = False
    assert busy_slots(flow) == 0


def test_a_slot_from_before_a_gap_is_forgotten() -> None:
    flow = working()
    tailer = Tailer(DaemonClient(name="local", url="http://127.0.0.1:1"), flow)
    tailer._closed(0.0)
    flow.counts.up = True
    assert busy_slots(flow) == 0
