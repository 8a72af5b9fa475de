"""Pure: the answer of `/live`, requests in flight and recent ones as JSON. Counts, times and names; never content.

Requests in flight come from a daemon's tap where there is one, and from the slots that its engines log. Where both tell
of one daemon, as many busy slots are left out as requests run through the tap. Assumed: which slot serves which request
is told by neither, so a slot of the same model in the same phase is taken for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from exporter.collectors.client_metrics import Tap
from exporter.collectors.prediction_metrics import Stream
from exporter.pipeline.slot_state import Slot
from exporter.tap.routes import WITH_TEXT


def document(streams: Iterable[Stream], taps: Iterable[Tap], *, now_s: float) -> dict[str, Any]:
    """Write the answer. `now_s` is Unix time in seconds."""
    streams = tuple(streams)
    tapped = {tap.daemon: tap for tap in taps if tap.reader.is_up}
    in_flight = [row for tap in tapped.values() for row in _tapped(tap)]
    for stream in streams:
        rows = list(_slots(stream, now_s))
        tap = tapped.get(stream.daemon)
        in_flight += rows if tap is None else _past_the_tap(rows, list(_tapped(tap)), tap.reader.running)
    recent = [
        (
            one.end_ns,
            {
                "daemon": stream.daemon,
                "model": one.model,
                "client": one.client,
                "finished_reason": one.finished_reason,
                "finished_seconds_ago": max(0.0, now_s - one.end_ns / 1e9),
                "elapsed_seconds": one.duration_s,
                "time_to_first_token_seconds": one.time_to_first_token_s,
                "tokens_per_second": one.tokens_per_second,
                "prompt_tokens": one.prompt_tokens,
                "output_tokens": one.output_tokens,
                "reasoning_ratio": one.reasoning_ratio,
            },
        )
        for stream in streams
        for one in stream.recent.finished
    ]
    recent.sort(key=lambda item: -item[0])
    return {"in_flight": in_flight, "recent": [row for _, row in recent[:200]]}


def _tapped(tap: Tap) -> Iterable[dict[str, Any]]:
    for one in tap.reader.live:
        yield {
            "daemon": tap.daemon,
            "request": f"{tap.reader.boot}-{one.id}",
            "has_text": tap.reader.shows_text and one.route in WITH_TEXT,
            "model": one.model,
            "client": one.client,
            "phase": one.phase,
            "elapsed_seconds": one.elapsed_s,
            "output_tokens": one.tokens,
            "tokens_per_second": one.tokens_per_s,
        }


def _past_the_tap(
    slots: list[dict[str, Any]], tapped: list[dict[str, Any]], running: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Return the busy slots that are more than the requests of the tap; those most unlike its requests stay."""
    surplus = max(0, len(slots) - sum(running.values()))
    for request in tapped:
        if len(slots) == surplus:
            break
        slots.remove(max(slots, key=lambda slot: _likeness(slot, request)))
    return slots[:surplus]


def _likeness(slot: dict[str, Any], request: dict[str, Any]) -> tuple[bool, bool]:
    is_prefill = request["phase"] == "prefill"
    return slot["model"] == request["model"], (slot["phase"] == "prefill") is is_prefill


def _slots(stream: Stream, now_s: float) -> Iterable[dict[str, Any]]:
    """Rows of busy slots: an engine's lines name no client, and no token count between two lines."""
    if not stream.flow.counts.up:
        return
    monitor = stream.flow.slots
    for instance in monitor.instances():
        for number, slot in monitor.slots(instance).items():
            if slot.busy:
                yield {
                    "daemon": stream.daemon,
                    "model": stream.model_key(instance),
                    "instance_id": instance,
                    "slot": number,
                    "phase": _phase(slot),
                    "prompt_progress_ratio": slot.prompt_progress,
                    "tokens_per_second": slot.tokens_per_second,
                    "last_line_seconds_ago": max(0.0, now_s - slot.progress_ms / 1000),
                }


def _phase(slot: Slot) -> str:
    """Return prefill or decode; `running` where the engine has logged neither since the task began."""
    if slot.prompt_progress is not None and slot.prompt_progress < 1:
        return "prefill"
    return "running" if slot.tokens_per_second is None else "decode"
