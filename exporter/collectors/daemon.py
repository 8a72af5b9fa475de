"""Collects the daemon: up, state, build, restarts, LM Link peers, age and cost of the reading."""

from __future__ import annotations

from exporter.catalogue import daemon as m
from exporter.collectors.base import Samples, Scrape
from exporter.llmster.client import DaemonState


def collect(scrape: Scrape, out: Samples) -> None:
    """Up, state and counts are always there; everything else only while the daemon can be read."""
    for daemon in scrape.daemons:
        reading, name = daemon.reading, daemon.name
        out.add(m.UP, reading.snapshot is not None, daemon=name)
        for state in DaemonState:
            out.add(m.STATE, reading.health.state is state, daemon=name, state=state.value)
        out.add(m.RESTARTS, daemon.watch.client.restarts, daemon=name)
        snapshot = reading.snapshot
        if snapshot is None:
            continue
        out.add(
            m.BUILD_INFO,
            1,
            daemon=name,
            version=snapshot.version.version,
            build="" if snapshot.version.build is None else str(snapshot.version.build),
            kind="daemon" if snapshot.process.is_daemon else "app",
        )
        out.add(m.SNAPSHOT_DURATION, snapshot.duration_s, daemon=name)
        out.add(m.SNAPSHOT_AGE, reading.age_s, daemon=name)
        for peer in snapshot.link.peers if snapshot.link else ():
            out.add(
                m.LINK_PEER_UP,
                peer.status == "connected",
                daemon=name,
                peer=peer.device_name or peer.device_identifier,
            )
