"""Collects what each engine reports besides its slots: its size, prompt cache, truncations and failed requests."""

from __future__ import annotations

from exporter.catalogue import engine as m
from exporter.collectors.base import Samples, Scrape
from exporter.collectors.slots import heard_engines


def collect(scrape: Scrape, out: Samples) -> None:
    """Add the values that engines logged; a value that an engine never logged is absent."""
    for stream, instance_id, own in heard_engines(scrape):
        state = stream.flow.slots.engine(instance_id)
        counts = stream.flow.slots.counts(instance_id)
        prompt_tokens = counts.cached_tokens + counts.processed_tokens
        out.add_all(
            {
                m.ENGINE_SLOTS: state.n_slots if state else None,
                m.ENGINE_CONTEXT: state.context_per_slot if state else None,
                m.CACHED_TOKENS: counts.cached_tokens if prompt_tokens else None,
                m.PROCESSED_TOKENS: counts.processed_tokens if prompt_tokens else None,
                m.CACHE_RATIO: counts.cached_tokens / prompt_tokens if prompt_tokens else None,
            },
            **own,
        )
        if state is None or not state.knows_slots:
            continue  # not a llama-server: it does not log what follows
        out.add_all(
            {m.TRUNCATED: counts.truncated, m.SHIFTED: counts.shifted, m.CANCELLED: counts.cancelled}, **own
        )
        for reason, count in (
            ("kv_exhausted", counts.context_exceeded),
            ("too_large", counts.too_large),
            ("other", counts.failed),
        ):
            out.add(m.FAILURES, count, **own, reason=reason)
