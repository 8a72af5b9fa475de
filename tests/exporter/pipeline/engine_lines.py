"""Writes engine lines and the events that carry them.

Knows no slot: what a line means is said by the tests.
"""

from exporter.llmster.events import LogEvent, RuntimeLog, ServerLog
from exporter.pipeline.slots import SlotMonitor

NOW = 1_795_351_872_748


def runtime(
    message: str,
    at_ms: int = NOW,
    model: str | None = "m",
    ref: str | None = "r",
    pid: int | None = 7,
) -> RuntimeLog:
    return RuntimeLog(at_ms, "debug", message, "llama.cpp", "2.41.0", "llama.cpp", model, ref, pid)


def server(line: str, at_ms: int = NOW, level: str = "debug", bracket: str = "") -> ServerLog:
    return ServerLog(at_ms, level, f"[2026-11-22 12:51:12][{level.upper()}]{bracket} {line}")


def monitor(*events: LogEvent) -> SlotMonitor:
    slots = SlotMonitor()
    for event in events:
        slots.add(event)
    return slots


LAUNCH = "slot launch_slot_: id  0 | task 316 | processing task, is_child = 0"
PROMPT = (
    "slot print_timing: id  0 | task 316 | prompt processing, n_tokens =  14336, progress = 0.21, t =  15.95 s / "
    "898.87 tokens per second"
)
DECODE = "slot print_timing: id  0 | task 316 | n_gen = 276, tg = 28.66 t/s, tg_3s = 30.85 t/s"
RELEASE = "slot      release: id  0 | task 316 | stop processing: n_tokens = 3553, truncated = 0"

ENGINE_LINES = [
    LAUNCH,
    PROMPT,
    DECODE,
    RELEASE,
    "srv  update_slots: all slots are idle",
    "The model has crashed without additional information. (Exit code: 1)",
]
