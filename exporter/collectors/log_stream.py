"""Collects the log stream itself: open or not, disconnects, time without it, events."""

from __future__ import annotations

from exporter.catalogue import log_stream as m
from exporter.collectors.base import Samples, Scrape


def collect(scrape: Scrape, out: Samples) -> None:
    """Add what is known of every stream, also of one that is closed."""
    for stream in scrape.streams:
        counts, daemon = stream.flow.counts, stream.daemon
        out.add(m.STREAM_UP, counts.up, daemon=daemon)
        out.add(m.DISCONNECTS, counts.disconnects, daemon=daemon)
        out.add(m.GAP_SECONDS, counts.gap_s, daemon=daemon)
        out.add_by(m.EVENTS, "type", counts.events, daemon=daemon)
        out.add_by(m.SERVER_MESSAGES, "level", counts.levels, daemon=daemon)
        out.add_by(m.ENGINE_CRASHES, "when", counts.crashes, daemon=daemon)
        out.add_by(m.EVENTS_DROPPED, "sink", counts.sink_failures, daemon=daemon, reason="failed")
        for (server, kind), count in counts.plugins.items():
            out.add(m.PLUGIN_MESSAGES, count, daemon=daemon, server=server, kind=kind)
        for (method, route, status), count in counts.http.items():
            if status:
                out.add(m.HTTP_RESPONSES, count, daemon=daemon, method=method, route=route, status=status)
            else:
                out.add(m.HTTP_REQUESTS, count, daemon=daemon, method=method, route=route)
