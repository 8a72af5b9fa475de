"""Collects the host of each local daemon: RAM, and what the daemon and its engines use of it."""

from __future__ import annotations

from exporter.catalogue import hardware as m
from exporter.collectors.base import Samples, Scrape


def collect(scrape: Scrape, out: Samples) -> None:
    """Add what can be seen of each daemon on this host. Raises HardwareError when the host did not answer."""
    host = scrape.host
    if host is None:
        return
    if host.host_problem is not None:
        raise host.host_problem
    for daemon, reading in (host.hosts or {}).items():
        if reading.memory is not None:
            out.add(m.HOST_MEMORY_TOTAL, reading.memory.total_bytes, daemon=daemon)
            out.add(m.HOST_MEMORY_AVAILABLE, reading.memory.available_bytes, daemon=daemon)
        for process in reading.processes:
            own = {"daemon": daemon, "role": process.role.value, "pid": str(process.pid)}
            out.add(m.PROCESS_RESIDENT, process.resident_bytes, **own)
            out.add(m.PROCESS_CPU, process.cpu_seconds, **own)
