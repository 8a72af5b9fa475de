"""A replayed recording gives the same numbers and ids every time."""

import json
from pathlib import Path

import pytest

from exporter.catalogue import log_stream as m
from llmster_sim.server import SimConfig, Simulator
from tests.otlp_sink import otlp_sink
from tests.system.conftest import StartExporter, daemon
from tests.system.test_pulse import play, spans_settled, total


async def recorded(seconds: float) -> bytes:
    """Record a simulated agent's stream as `lms log stream --json` prints it."""
    lines: list[bytes] = []
    async with Simulator(SimConfig(scenario="agent", manual_clock=True, seed=5)) as sim:
        stop = sim.daemon.watch(lambda event: lines.append(json.dumps(event).encode() + b"\n"))
        await play(sim, seconds)
        stop()
    return b"".join(lines)


async def test_a_replayed_recording_gives_the_same_numbers_and_ids_every_time(
    start_exporter: StartExporter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recording = await recorded(200)
    file = tmp_path / "monday.ndjson"
    file.write_bytes(recording)
    outputs = recording.count(b'"llm.prediction.output"')
    assert outputs > 50
    runs: list[tuple[list[float], list[bytes]]] = []
    for _ in range(2):
        with otlp_sink() as received:
            for name, value in received.environment().items():
                monkeypatch.setenv(name, value)
            with file.open("rb") as opened:
                exporter = await start_exporter(daemon("monday", "http://127.0.0.1:9"), recording=opened)
                await exporter.until(lambda s: total(s, m.REQUESTS.name, daemon="monday") == outputs)
            scraped = await exporter.until(lambda s, received=received: spans_settled(s, received))  # type: ignore[misc]
            rows = (m.REQUESTS, m.PROMPT_TOKENS, m.GENERATION_TOKENS, m.REASONING_TOKENS)
            sums = [total(scraped, row.name) for row in rows]
            assert "llmster_up" not in scraped.names(), "no daemon is watched in a replay"
            runs.append((sums, sorted(span.trace_id + span.span_id for span in received.spans)))
    assert runs[0] == runs[1]
    assert all(runs[0][0])
    assert len(runs[0][1]) > outputs
