"""Collects who holds GPU memory: loaded instances, other processes of the daemon, and foreign processes."""

from __future__ import annotations

from exporter.catalogue import hardware as m
from exporter.collectors.base import Samples, Scrape
from exporter.hardware.attribution import ProcessShare


def collect(scrape: Scrape, out: Samples) -> None:
    """Add nothing where the GPUs or their processes cannot be seen."""
    if scrape.host is None:
        return
    vram = scrape.host.vram
    for daemon in vram.daemons:
        for model, share in daemon.instances:
            out.add(
                m.INSTANCE_VRAM,
                share.memory_bytes,
                daemon=daemon.daemon,
                model=model,
                instance_id=share.instance_id,
                gpu=str(share.gpu),
            )
            for process in share.processes:
                _add_process(out, process, share.instance_id)
        out.add_by(m.UNATTRIBUTED_VRAM, "gpu", daemon.unattributed, daemon=daemon.daemon)
        for process in daemon.unattributed_processes:
            _add_process(out, process, "")
    for process in vram.foreign:
        _add_process(out, process, "")


def _add_process(out: Samples, process: ProcessShare, instance_id: str) -> None:
    out.add(
        m.PROCESS_MEMORY,
        process.memory_bytes,
        gpu=str(process.gpu),
        pid="" if process.pid is None else str(process.pid),
        process=process.name or "",
        instance_id=instance_id,
    )
