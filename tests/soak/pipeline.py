"""Sends predictions through the exporter's own pipeline: paired, split, counted, some also traced; scraped meanwhile.

Knows no socket: wire.py has those. The sums of the last scrape must be those of the hour, to the token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from exporter.catalogue import daemon as state
from exporter.catalogue import log_stream as m
from exporter.collectors import DAEMON_COLLECTORS
from exporter.collectors.base import Scrape, WatchedDaemon, run
from exporter.collectors.prediction_metrics import PredictionMetrics, Stream
from exporter.http.exposition import expose
from exporter.llmster.client import DaemonClient, DaemonState, Health
from exporter.llmster.state import Snapshot
from exporter.pipeline.engine_pids import EnginePids
from exporter.pipeline.log_stream import EventFlow
from exporter.pipeline.predictions import Prediction, PredictionBuilder
from exporter.pipeline.snapshots import DaemonReading, DaemonWatch
from exporter.telemetry.batch_queue import BatchQueue
from exporter.telemetry.spans import SpanSink
from tests.soak.footprint import Curve
from tests.soak.hour import SCRAPE_S, Hour

NAME = "box"
POINTS = 4
CONTEXT = 8192
QUEUED = 4096
"""Half of what a queue holds: below it nothing is waited for."""


class Watched:
    """One daemon as the exporter holds it, filled by hand."""

    def __init__(self, hour: Hour, *, traced: bool) -> None:
        self.exported = 0
        self.watch = DaemonWatch(DaemonClient(name=NAME, url="http://127.0.0.1:1"), local_home=None)
        self._queue: BatchQueue[Any] | None = (
            BatchQueue("spans", self._deliver, batch=128) if traced else None
        )
        builder = PredictionBuilder(NAME, context_length=lambda _: CONTEXT, identify=traced)
        self.metrics = PredictionMetrics(NAME, model_key=hour.key_of, exemplars=traced)
        spans = [SpanSink(self._queue)] if self._queue is not None else []
        self.flow = EventFlow(builder, [self.metrics, EnginePids(), *spans])
        self.watch.observers.append(self.flow.forget_unloaded)
        self._stream = Stream(NAME, self.flow, self.metrics, hour.key_of)

    def observe(self, snapshot: Snapshot) -> None:
        """Take a reading, as the watch does."""
        self.watch.changes.observe(snapshot)
        for observer in self.watch.observers:
            observer(snapshot)

    def scrape(self, snapshot: Snapshot) -> str:
        """Collect and write everything that is known of daemons."""
        reading = DaemonReading(
            NAME, Health(DaemonState.RUNNING, None), snapshot, 0.0, None, self.watch._counts()
        )
        seen = Scrape(
            now_s=snapshot.taken_at_s,
            daemons=(WatchedDaemon(reading),),
            streams=(self._stream,),
        )
        return expose(run(DAEMON_COLLECTORS, seen), accept="", accept_encoding="").body.decode()

    def keep_up(self, *, at_most: int) -> None:
        """Let the worker of spans empty its queue: absent.py is about receivers that are away."""
        if self._queue is not None and len(self._queue._queue) > at_most:
            self._queue.wait_until_empty(within_s=60)

    def close(self) -> None:
        """End the worker of spans."""
        if self._queue is not None:
            self._queue.close(within_s=1)

    def _deliver(self, batch: Sequence[Prediction]) -> bool:
        self.exported += len(batch)
        return True


def soak(
    name: str,
    *,
    predictions: int,
    seconds: float,
    traced: bool,
    seed_leak: bool = False,
) -> tuple[Curve, list[str]]:
    """Run the hour; return the curve and what is wrong, memory aside. `seed_leak` keeps a trace of every event."""
    hour = Hour(predictions=predictions, seconds=seconds)
    watched = Watched(hour, traced=traced)
    curve = Curve(name)
    curve.sample("start")
    kept: list[float] = []
    due = [predictions * point // POINTS for point in range(1, POINTS + 1)]
    text, next_scrape_s = "", 0.0
    for thing in hour.events():
        if isinstance(thing, Snapshot):
            watched.observe(thing)
            watched.keep_up(at_most=QUEUED)
            if thing.taken_at_s < next_scrape_s and hour.is_on:
                continue
            next_scrape_s = thing.taken_at_s + SCRAPE_S
            text = watched.scrape(thing)
            if hour.sums.predictions >= due[0]:
                curve.sample(f"{hour.sums.predictions:,} predictions")
                due.pop(0)
        else:
            watched.flow.take(thing)
            if seed_leak:
                kept.append(float(len(kept)))
    watched.keep_up(at_most=0)
    curve.sample(f"{hour.sums.predictions:,} predictions")
    watched.close()
    problems = differences(text, hour)
    if traced and watched.exported != hour.sums.predictions:
        problems.append(f"spans of {watched.exported:,} predictions exported, not {hour.sums.predictions:,}")
    return curve, problems


def differences(text: str, hour: Hour) -> list[str]:
    """Compare the last scrape with what the hour itself added up."""
    got: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            got[sample.name] += int(sample.value)
            if sample.name == state.UNLOADS.name:
                got[f"{sample.name} {sample.labels['cause']}"] += int(sample.value)
    sums = hour.sums
    expected = {
        m.REQUESTS.name: sums.predictions,
        m.PROMPT_TOKENS.name: sums.prompt_tokens,
        m.GENERATION_TOKENS.name: sums.generated_tokens,
        m.REASONING_TOKENS.name: sums.reasoning_tokens,
        m.TOOL_CALLS.name: sums.tool_calls,
        state.LOADS.name: sums.loads.total(),
        **{
            f"{state.UNLOADS.name} {cause}": sum(n for (_, why), n in sums.unloads.items() if why == cause)
            for cause in ("ttl", "restart", "other")
        },
    }
    return [
        f"{name} is {got[name]:,}, not {value:,}" for name, value in expected.items() if got[name] != value
    ]
