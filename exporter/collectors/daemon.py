"""Collects the daemon: up, state, build, restarts, LM Link peers, age and cost of the reading."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from exporter.catalogue import daemon as m
from exporter.collectors.base import Samples, Scrape
from exporter.llmster.client import DaemonState
from exporter.llmster.state import LINK_ISSUES, LINK_STATES, Engine, LinkPeer, LinkStatus

MAX_ENGINES: Final = 50
MAX_ISSUES: Final = 20


def collect(scrape: Scrape, out: Samples) -> None:
    """Up, state and counts are always there; everything else only while the daemon can be read."""
    for daemon in scrape.daemons:
        reading, name = daemon.reading, daemon.name
        out.add(m.UP, reading.snapshot is not None, daemon=name)
        out.add_by(m.STATE, "state", {one: reading.health.state is one for one in DaemonState}, daemon=name)
        out.add(m.RESTARTS, reading.counts.restarts, daemon=name)
        if reading.site:
            out.add(m.SITE_INFO, 1, daemon=name, site=reading.site)
        snapshot = reading.snapshot
        if snapshot is None:
            continue
        version, process = snapshot.version, snapshot.process
        if version.version is not None or process.is_daemon is not None:
            out.add(
                m.BUILD_INFO,
                1,
                daemon=name,
                version=version.version or "",
                build="" if version.build is None else str(version.build),
                kind="" if process.is_daemon is None else "daemon" if process.is_daemon else "app",
            )
        out.add_all({m.SNAPSHOT_DURATION: snapshot.duration_s, m.SNAPSHOT_AGE: reading.age_s}, daemon=name)
        for engine, version_of_it in _engines(snapshot.engines or ()):
            out.add(m.ENGINE_INFO, 1, daemon=name, engine=engine, version=version_of_it)
        if snapshot.link is not None:
            _add_link(out, name, snapshot.link)
        peers = _peers(snapshot.link.peers if snapshot.link else ())
        out.add_by(m.LINK_PEER_UP, "peer", peers, daemon=name)


def _engines(engines: Iterable[Engine]) -> Iterable[tuple[str, str]]:
    """Name engines and versions once each, and not more than MAX_ENGINES: the names come from the daemon."""
    return sorted({(one.name, one.version) for one in engines})[:MAX_ENGINES]


def _add_link(out: Samples, daemon: str, link: LinkStatus) -> None:
    if link.status is not None:
        out.add_by(m.LINK_STATE, "state", {one: link.status == one for one in LINK_STATES}, daemon=daemon)
    if link.issues is None:
        return
    others = sorted(set(link.issues) - set(LINK_ISSUES))[:MAX_ISSUES]
    issues = {issue: issue in link.issues for issue in (*LINK_ISSUES, *others)}
    out.add_by(m.LINK_ISSUE, "issue", issues, daemon=daemon)


def _peers(peers: Iterable[LinkPeer]) -> dict[str, bool]:
    """Tell by name which peers are connected; of peers that share a name, whether all of them are."""
    up: dict[str, bool] = {}
    for peer in peers:
        name = peer.device_name or peer.device_identifier
        up[name] = up.get(name, True) and peer.status == "connected"
    return up
