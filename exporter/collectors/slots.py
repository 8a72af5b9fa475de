"""Collects the slots of each engine's batch: which are busy, prompt progress, rates, context."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.catalogue import engine as e
from exporter.catalogue import log_stream as m
from exporter.collectors.base import Samples, Scrape
from exporter.collectors.prediction_metrics import Stream


def heard_engines(scrape: Scrape) -> Iterator[tuple[Stream, str, dict[str, str]]]:
    """Yield the engines that log now, with their stream, instance and labels.

    Only while their stream is open and their daemon answers: otherwise the state of an engine is unknown.
    """
    unreadable = {daemon.name for daemon in scrape.daemons if daemon.reading.snapshot is None}
    for stream in scrape.streams:
        if stream.flow.counts.up and stream.daemon not in unreadable:
            for instance_id in stream.flow.slots.instances():
                model = stream.model_key(instance_id)
                yield (
                    stream,
                    instance_id,
                    {"daemon": stream.daemon, "model": model, "instance_id": instance_id},
                )


def collect(scrape: Scrape, out: Samples) -> None:
    """Add the slots that appeared in the log."""
    for stream, instance_id, own in heard_engines(scrape):
        slots = stream.flow.slots.slots(instance_id, stream.flow.now_ms())
        last_ms = stream.flow.slots.last_progress_ms(instance_id)
        out.add(m.SLOTS, len(slots) or None, **own)
        out.add(m.LAST_PROGRESS, None if last_ms is None else last_ms / 1000, **own)
        for number, slot in slots.items():
            labels = {**own, "slot": str(number)}
            out.add_all({m.SLOT_BUSY: slot.busy, e.SLOT_CONTEXT: slot.context_tokens}, **labels)
            if slot.busy:
                out.add_all(
                    {
                        m.SLOT_PROMPT_PROGRESS: slot.prompt_progress,
                        m.SLOT_RATE: slot.tokens_per_second,
                        e.SLOT_PREFILL_RATE: slot.prefill_tokens_per_second,
                    },
                    **labels,
                )
