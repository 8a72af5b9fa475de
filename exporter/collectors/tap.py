"""Collects the taps: their metrics, requests in flight, and the state of each tap."""

from __future__ import annotations

from typing import Final

from exporter.catalogue import tap as m
from exporter.collectors.base import Samples, Scrape

_UNREAD: Final = {
    "framing": "unread_framing",
    "body": "unread_bodies",
    "event": "malformed_events",
    "channel": "unread_channels",
    "failure": "unread_failures",
}
_FAILURES: Final = {"upstream": "connect_failures", "limit": "rejected_connections"}
OUTCOMES: Final = ("matched", "log_only", "tap_only", "unmatched", "compound")


def collect(scrape: Scrape, out: Samples) -> None:
    """Add every tap. Counts of this process stay while a tap is away; the tap's own counts are then absent."""
    for tap in scrape.taps:
        daemon, reader = tap.daemon, tap.reader
        out.add(m.UP, reader.is_up, daemon=daemon)
        for metric, family in tap.metrics.collect():
            out.adopt(metric, family)
        out.add_by(m.CLAIMS, "outcome", {one: tap.claims.outcomes[one] for one in OUTCOMES}, daemon=daemon)
        out.add(m.MISSED, reader.missed, daemon=daemon)
        if not reader.is_up:
            continue
        out.add_by(m.RUNNING, "client", reader.running, daemon=daemon)
        counts = reader.counts
        out.add(m.UPSTREAM_UP, counts.get("upstream_reachable"), daemon=daemon)
        out.add(m.CONNECTIONS, counts.get("open_connections"), daemon=daemon)
        for metric, reasons in ((m.CONNECTION_FAILURES, _FAILURES), (m.UNREAD, _UNREAD)):
            failed = {reason: counts.get(name, 0) for reason, name in reasons.items()}
            out.add_by(metric, "reason", failed, daemon=daemon)
