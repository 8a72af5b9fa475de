"""Composes the exporter from its settings, and runs it until a signal.

Only wiring: each part is in its own module.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from exporter.collectors.energy_metrics import Energy, EnergyMetrics
from exporter.collectors.prediction_metrics import Stream
from exporter.hardware.host import HostSource, LocalHost
from exporter.hardware.vendors import Sources, local_sources
from exporter.http.routes import Routes
from exporter.llmster import local_files
from exporter.llmster.client import DaemonClient
from exporter.log_pipeline import Streams
from exporter.pipeline.energy_watch import READ_WITHIN_S, EnergyWatch
from exporter.pipeline.host_snapshot import HostWatch
from exporter.pipeline.replay import fault, replay
from exporter.pipeline.snapshots import DaemonWatch
from exporter.settings import DaemonSettings, ExporterSettings
from exporter.shared import host_header, logs, process, web_config
from exporter.shared import server as serving
from exporter.shared.settings_table import SettingsError
from exporter.shared.web_config import BasicAuth, WebConfig
from exporter.tap_pipeline import taps_of
from exporter.telemetry import otel_env

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

    from exporter.telemetry.metric_push import MetricPush

log = logging.getLogger(__name__)

OPENINGS_AT_ONCE: Final = 64
"""Sessions that are being opened at the same time. So many daemons that do not answer make the others wait, too."""


def run(settings: ExporterSettings, *, recording: BinaryIO | None = None) -> None:
    """Serve until SIGTERM or SIGINT. Raises SettingsError before anything is started."""
    logs.configure(level=settings.log_level, format_=settings.log_format)
    process.raise_open_files_limit()
    process.raise_gc_threshold()
    asyncio.run(serve(settings, recording=recording))


async def serve(
    settings: ExporterSettings,
    *,
    ready: Callable[[str], None] | None = None,
    recording: BinaryIO | None = None,
    gpus: Sources | None = None,
    host: HostSource | None = None,
) -> None:
    """Watch the daemons and answer scrapes until SIGTERM, SIGINT or cancellation.

    `ready` is called with the URL once the port answers. With a `recording` (the output of `lms log stream --json`)
    no daemon is watched: its events are replayed under the name of the first daemon. `gpus` and `host` replace this
    host's sources (simulated GPUs, for example). Raises SettingsError.
    """
    if recording is not None:
        _check_recording(recording, settings)
    otel_env.check()
    web = web_config.load(settings.web_config) if settings.web_config else WebConfig()
    daemons = settings.daemons if recording is None else ()
    opening = asyncio.Semaphore(OPENINGS_AT_ONCE)
    watches = [watch(daemon, max_age_s=settings.max_age_s, opening=opening) for daemon in daemons]
    energy_metrics = EnergyMetrics()
    energy = EnergyWatch(count=energy_metrics.count)
    host_watch = HostWatch(
        gpus if gpus is not None else local_sources(),
        host or LocalHost(),
        local=[daemon.name for daemon in daemons if daemon.is_loopback or daemon.home is not None],
        energy=energy,
        max_age_s=settings.max_age_s,
    )
    listener = serving.listen(settings.listen_host, settings.listen_port)
    url = serving.url_of(listener, tls=web.tls is not None)
    streams = Streams(settings, watches, host_watch.engines, energy) if settings.log_stream else None
    recorded = streams.recording(settings.daemons[0].name) if streams and recording else None
    taps = taps_of(daemons, streams.streams if streams else (), live_token=settings.live_token)
    deliveries = dict(streams.deliveries) if streams else {}
    routes = Routes(
        watches,
        streams=streams.streams if streams else (),
        taps=taps,
        host=host_watch,
        energy=Energy(energy, energy_metrics),
        deliveries=deliveries,
        live_token=settings.live_token,
        auth=BasicAuth(web.users) if web.users else None,
        hosts=host_header.accepted(settings.listen_host, settings.allowed_hosts),
    )
    server = serving.Server(routes, tls=web.tls)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(watched.run(), name=f"watch {watched.name}") for watched in watches]
        if streams is not None:
            tasks += [group.create_task(tailer.run(), name="log stream") for tailer in streams.tailers]
        tasks += [group.create_task(tap.reader.run(), name="tap") for tap in taps]
        if (push := _metric_push(routes)) is not None:
            deliveries["metrics"] = push.counts
            tasks.append(group.create_task(push.run(), name="metric push"))
        tasks.append(
            group.create_task(
                energy.run(functools.partial(host_watch.read_gpus, within_s=READ_WITHIN_S)), name="energy"
            )
        )
        if recorded is not None and recording is not None:
            tasks.append(group.create_task(_replay(recording, recorded), name="replay"))

        def announce() -> None:
            names = ",".join(daemon.name for daemon in settings.daemons)
            log.info("exporter started", extra={"url": url, "daemons": names})
            if ready is not None:
                ready(url)

        try:
            await server.serve_until_signal(listener, ready=announce)
        finally:
            for task in tasks:
                task.cancel()
            await host_watch.close()
            for tap in taps:
                tap.claims.expire(everything=True)
            energy.close()
            if streams is not None:
                await asyncio.to_thread(streams.close)
    log.info("exporter stopped")


def _check_recording(recording: BinaryIO, settings: ExporterSettings) -> None:
    if not settings.log_stream:
        raise SettingsError(key="log_stream", value="off", fix="a recording is a log stream; leave it on")
    try:
        wrong = fault(recording)
    except OSError as error:
        wrong = f"it cannot be read ({error.strerror})"
    if wrong is not None:
        fix = f"{wrong}; record one with: lms log stream --json > recording.jsonl"
        raise SettingsError(key="--replay", value=str(getattr(recording, "name", "")), fix=fix)


def _metric_push(routes: Routes) -> MetricPush | None:
    """Make the push of metrics by OTLP; None without a receiver, and then the SDK is not imported."""
    if not otel_env.metrics_wanted()[0]:
        return None
    from exporter.telemetry import metric_push  # noqa: PLC0415 - the SDK costs memory

    async def collect() -> Iterable[Family]:
        return (await routes.samples(within_s=READ_WITHIN_S)).collect()

    return metric_push.from_environment(collect)


async def _replay(recording: BinaryIO, stream: Stream) -> None:
    events = await replay(recording, stream.flow)
    log.info("recording replayed", extra={"daemon": stream.daemon, "events": events})


def watch(daemon: DaemonSettings, *, max_age_s: float, opening: asyncio.Semaphore) -> DaemonWatch:
    """Make the watch of one daemon from its settings."""
    client = DaemonClient(
        name=daemon.name,
        url=daemon.url,
        token=daemon.current_token,
        opening=opening,
    )
    return DaemonWatch(client, local_home=_local_home(daemon), max_age_s=max_age_s, site=daemon.site)


def _local_home(daemon: DaemonSettings) -> Path | None:
    """Find the daemon's home if it is on this host.

    A loopback URL may lead through a tunnel to another host, so a home that is not configured is used only if its
    daemon listens on the port of the URL.
    """
    if daemon.home is not None:
        return daemon.home
    if not daemon.is_loopback:
        return None
    try:
        found = local_files.default_home(Path.home())
    except RuntimeError:  # a user id without a name, and no HOME: there is no telling where it would be
        return None
    return found if daemon.port in local_files.ports(found) else None
