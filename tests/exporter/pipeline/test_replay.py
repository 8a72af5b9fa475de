"""A recording is fed to its end, in order, whatever it comes through; a quiet pipe holds nothing up."""

import asyncio
import json
import os
import tracemalloc
from pathlib import Path

import pytest

from exporter.llmster.events import RuntimeLog, ServerLog
from exporter.pipeline.log_stream import EventFlow
from exporter.pipeline.predictions import Prediction, PredictionBuilder
from exporter.pipeline.replay import replay


class Seen:
    """A sink that keeps what the log said."""

    name = "seen"

    def __init__(self) -> None:
        self.texts: list[str] = []

    def take_prediction(self, _prediction: Prediction) -> None:
        """There are none here."""

    def take_log(self, event: ServerLog | RuntimeLog) -> None:
        assert isinstance(event, ServerLog)
        self.texts.append(event.content)


def line(text: str) -> bytes:
    data = {"type": "server.log", "content": text, "level": "info"}
    return json.dumps({"timestamp": 1, "data": data}).encode() + b"\n"


def flow_to(seen: Seen) -> EventFlow:
    return EventFlow(PredictionBuilder("d"), [seen])


@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n"])
async def test_every_event_is_taken_in_order_however_long_its_line(tmp_path: Path, end: bytes) -> None:
    texts = [f"{number} " + "x" * (700_000 if number % 700 == 5 else number % 50) for number in range(3000)]
    path = tmp_path / "day.ndjson"
    path.write_bytes(b"".join(map(line, texts)).removesuffix(b"\n") + end)
    seen = Seen()
    with path.open("rb") as file:
        assert await replay(file, flow_to(seen)) == len(texts)
    assert seen.texts == texts


async def test_a_line_without_an_end_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.pipeline.replay.MAX_LINE_BYTES", 300_000)
    path = tmp_path / "day.ndjson"
    path.write_bytes(line("first") + b"x" * 5_000_000 + b"\n" + line("last"))
    seen = Seen()
    with path.open("rb") as file:
        tracemalloc.start()
        await replay(file, flow_to(seen))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert seen.texts == ["first", "last"]
    assert most < 4_000_000


async def test_a_quiet_pipe_holds_nothing_up_and_what_it_says_is_taken_at_once() -> None:
    reading, writing = os.pipe()
    seen = Seen()
    with os.fdopen(reading, "rb") as quiet, os.fdopen(writing, "wb", buffering=0) as pipe:
        replaying = asyncio.create_task(replay(quiet, flow_to(seen)))
        async with asyncio.timeout(20):
            for text in ("first", "second"):
                pipe.write(line(text))
                while text not in seen.texts:  # noqa: ASYNC110 - a thread reads
                    await asyncio.sleep(0.001)
        pipe.write(line("cut")[:-10])
        pipe.close()
        assert await replaying == 3, "what was cut counts as malformed"


async def test_a_recording_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)  # a folder can be opened, and not read
    with os.fdopen(os.open(os.devnull, os.O_RDONLY), "rb") as file:
        os.dup2(descriptor, file.fileno())
        os.close(descriptor)
        with pytest.raises(IsADirectoryError):
            await replay(file, flow_to(Seen()))
