"""Collects the slots of each engine's batch: which work, on how much of their prompt, how fast."""

from __future__ import annotations

from exporter.catalogue import log_stream as m
from exporter.collectors.base import Samples, Scrape


def collect(scrape: Scrape, out: Samples) -> None:
    """Add slots only while their stream is open and their daemon answers: else what an engine does is not known."""
    unreadable = {daemon.name for daemon in scrape.daemons if daemon.reading.snapshot is None}
    for stream in scrape.streams:
        if not stream.flow.counts.up or stream.daemon in unreadable:
            continue
        monitor = stream.flow.slots
        for instance_id in monitor.instances():
            slots = monitor.slots(instance_id)
            own = {
                "daemon": stream.daemon,
                "model": stream.model_key(instance_id),
                "instance_id": instance_id,
            }
            out.add(m.SLOTS, len(slots), **own)
            last_ms = monitor.last_progress_ms(instance_id)
            out.add(m.LAST_PROGRESS, None if last_ms is None else last_ms / 1000, **own)
            for number, slot in slots.items():
                out.add(m.SLOT_BUSY, slot.busy, **own, slot=str(number))
                if slot.busy:
                    out.add(m.SLOT_PROMPT_PROGRESS, slot.prompt_progress, **own, slot=str(number))
                    out.add(m.SLOT_RATE, slot.tokens_per_second, **own, slot=str(number))
