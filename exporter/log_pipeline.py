"""Composes the log pipeline of each daemon: log stream reader, event flow, prediction metrics, and OTLP sinks.

The OpenTelemetry SDK is imported only when the environment
names a receiver: a GPU node without tracing does not pay for it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from exporter.collectors.base import Deliveries
from exporter.collectors.prediction_metrics import PredictionMetrics, Stream
from exporter.pipeline.energy_watch import EnergySink, EnergyWatch
from exporter.pipeline.engine_pids import EnginePids
from exporter.pipeline.log_stream import EventFlow, Sink, Tailer
from exporter.pipeline.predictions import PredictionBuilder
from exporter.pipeline.recent import RecentPredictions
from exporter.pipeline.snapshots import DaemonWatch
from exporter.settings import ExporterSettings
from exporter.telemetry import otel_env

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from exporter.telemetry.otlp import Otlp
    from exporter.telemetry.spans import SpanSink


class Streams:
    """The log streams of all watched daemons."""

    def __init__(
        self,
        settings: ExporterSettings,
        watches: Sequence[DaemonWatch],
        engines: Mapping[str, EnginePids],
        energy: EnergyWatch | None = None,
    ) -> None:
        """Make the parts; the tailers' run() is the owner's to start.

        `engines` are the daemons of this host: they learn pids from runtime.log, and their requests use its `energy`.
        """
        self._settings = settings
        self._tapped = {daemon.name for daemon in settings.daemons if daemon.tap_url is not None}
        self._energy = energy
        self._clients = {watch.name: watch.client for watch in watches}
        self._captures = captures(settings)
        self._servers = {
            daemon.name: (urlsplit(daemon.url).hostname or "", daemon.port) for daemon in settings.daemons
        }
        self._resources: dict[tuple[str, str | None], Resource] = {}
        self._otlp = self._open_otlp() if otel_env.are_configured() else None
        self.streams: list[Stream] = []
        self.tailers: list[Tailer] = []
        for watch in watches:
            is_local = watch.name in engines
            learners: list[Sink] = [engines[watch.name]] if is_local else []
            stream = self._stream(watch.name, _Lookup(watch), learners, uses_energy=is_local)
            watch.engine_slots = stream.flow.slots.engine_slots
            watch.observers += [
                stream.flow.forget_unloaded,
                stream.flow.learn_reasoning,
                stream.metrics.expect,
            ]
            if is_local and energy is not None:
                watch.observers.append(functools.partial(energy.snapshot_taken, watch.name))
            self.streams.append(stream)
            self.tailers.append(Tailer(watch.client, stream.flow))

    @property
    def deliveries(self) -> Mapping[str, Deliveries]:
        """What became of what went out, by signal."""
        if self._otlp is None:
            return {}
        queues = {"spans": self._otlp.spans, "logs": self._otlp.logs}
        return {signal: queue.counts for signal, queue in queues.items() if queue is not None}

    def close(self) -> None:
        """Send what is left, within a few seconds. Blocks."""
        if self._otlp is not None:
            self._otlp.close()

    def recording(self, daemon: str) -> Stream:
        """Add a stream that no tailer fills, for a replay."""
        stream = self._stream(daemon, _Lookup(None), [], uses_energy=False)
        self.streams.append(stream)
        return stream

    def _stream(self, daemon: str, lookup: _Lookup, learners: Sequence[Sink], *, uses_energy: bool) -> Stream:
        has_traces = self._otlp is not None and self._otlp.spans is not None
        builder = PredictionBuilder(
            daemon,
            context_length=lookup.context_length,
            reasoning_tags=self._settings.reasoning_tags,
            tool_tags=self._settings.tool_tags,
            keep_content=self._otlp is not None and any(captured != "off" for captured in self._captures),
            identify=self._otlp is not None,
            sum_endings=daemon in self._tapped,
        )
        metrics = PredictionMetrics(daemon, model_key=lookup.model_key, exemplars=has_traces)
        spans, logs = self._otlp_sinks(daemon)
        take_operation = spans.take_operation if spans is not None else None
        energy = self._energy if uses_energy else None
        first: Sink | None = spans
        if energy is not None:
            first = EnergySink(daemon, energy, model_key=lookup.model_key, then=spans)
        # Metrics come first: they take every event, even where another sink fails.
        recent = RecentPredictions(lookup.model_key)
        outwards = [sink for sink in (first, logs) if sink is not None]
        flow = EventFlow(builder, [metrics, recent, *learners, *outwards])
        if energy is not None:
            flow.slots.busy_changed = lambda instance, slots: energy.slots_changed(
                daemon, lookup.model_key(instance), instance, slots
            )
        flow.on_queue_time = metrics.take_queue_time
        return Stream(daemon, flow, metrics, lookup.model_key, recent, take_operation)

    def _open_otlp(self) -> Otlp:
        from opentelemetry.trace import SpanKind  # noqa: PLC0415 - see the module's docstring

        from exporter.telemetry import otlp  # noqa: PLC0415
        from exporter.telemetry.content import Capture  # noqa: PLC0415
        from exporter.telemetry.spans import Style  # noqa: PLC0415

        style = Style(
            capture=Capture(self._captures[0]),
            kind=SpanKind[self._settings.span_kind.upper()],
            server_of=self._servers.get,
        )
        return otlp.from_environment(self._resource, style)

    def _otlp_sinks(self, daemon: str) -> tuple[SpanSink | None, Sink | None]:
        """Make the sinks of spans and of log records, for those that have a receiver."""
        if self._otlp is None:
            return None, None
        from exporter.telemetry.content import Capture  # noqa: PLC0415
        from exporter.telemetry.log_sink import LogSink  # noqa: PLC0415
        from exporter.telemetry.spans import SpanSink  # noqa: PLC0415

        otlp = self._otlp
        spans = SpanSink(otlp.spans) if otlp.spans is not None else None
        logs = None
        if otlp.logs is not None:
            capture, of_predictions = Capture(self._settings.capture), Capture(self._captures[1])
            logs = LogSink(daemon, otlp.logs, self._resource, capture, of_predictions=of_predictions)
        return spans, logs

    def _resource(self, daemon: str) -> Resource:
        """Describe a daemon as of its latest session; made once per version."""
        from exporter.telemetry import otlp  # noqa: PLC0415

        client = self._clients.get(daemon)
        key = (daemon, client.version if client is not None else None)
        if key not in self._resources:
            self._resources[key] = otlp.resource(daemon=daemon, version=key[1])
        return self._resources[key]


def captures(settings: ExporterSettings) -> tuple[str, str]:
    """Return what may leave on spans, and in the records of predictions. Our setting wins; off is a setting, too.

    Raises SettingsError for a value of OpenTelemetry's variable that it does not have.
    """
    wanted = otel_env.content_wanted()
    if settings.is_capture_given:
        return settings.capture, settings.capture
    on_spans, in_records = ("full" if is_wanted else "off" for is_wanted in wanted)
    return on_spans, in_records


class _Lookup:
    """Looks up an instance of the log in the latest snapshot; a recording has no snapshot."""

    def __init__(self, watch: DaemonWatch | None) -> None:
        self._watch = watch

    def model_key(self, identifier: str) -> str:
        info = self._watch.instance(identifier) if self._watch is not None else None
        return info.model_key if info is not None else identifier

    def context_length(self, identifier: str) -> int | None:
        info = self._watch.instance(identifier) if self._watch is not None else None
        return info.context_length if info is not None else None
