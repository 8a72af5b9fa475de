"""Collects the security posture of a daemon: listen address, authentication, logging of content."""

from __future__ import annotations

from exporter.catalogue import daemon as m
from exporter.collectors.base import Samples, Scrape


def collect(scrape: Scrape, out: Samples) -> None:
    """Add authentication for every daemon, and the files only where the daemon's home is on this host."""
    for daemon in scrape.daemons:
        snapshot, posture = daemon.reading.snapshot, daemon.reading.posture
        if snapshot is not None:
            out.add(m.AUTH_REQUIRED, snapshot.auth_required, daemon=daemon.name)
        if posture is None:
            continue
        out.add_all(
            {
                m.LISTENS_BEYOND_LOOPBACK: posture.listens_beyond_loopback,
                m.SENSITIVE_LOGGING: posture.sensitive_logging,
                m.TOKEN_LOGGING: posture.log_incoming_tokens,
                m.CORS: posture.cors,
                m.JIT_LOADING: posture.jit_loading,
                m.JIT_EVICTS: posture.jit_evicts,
                m.JIT_TTL: posture.jit_ttl_s,
                m.LOAD_ANYWAY: posture.load_anyway,
                m.PROMPT_HISTORY: posture.prompt_history_bytes,
            },
            daemon=daemon.name,
        )
        if posture.guardrails is not None:
            out.add(m.GUARDRAILS, 1, daemon=daemon.name, mode=posture.guardrails)
