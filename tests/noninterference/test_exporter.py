"""Twins that differ in text alone look the same from outside the exporter and the tap, on every channel."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any
from unittest import mock

import msgspec
import pytest

from exporter.http import landing, live
from exporter.log_pipeline import _Lookup
from exporter.pipeline.output.reader import OutputReader
from exporter.tap.exchange import Exchange
from exporter.tap.meter import Meter
from exporter.telemetry import content, spans
from tests.noninterference import exporter_channels
from tests.noninterference.exporter_channels import Channels
from tests.noninterference.twins import CLASSES, ENCODINGS, Twin, encode

PAIRS = 200
BLOCKS = 10


def pair(seed: int) -> tuple[Channels, Channels]:
    """Run both twins of a shape."""
    mine, theirs = (exporter_channels.run(Twin(Random(seed), turn)) for turn in (0, 1))
    return mine, theirs


@pytest.mark.parametrize("block", range(BLOCKS))
def test_no_channel_tells_one_twin_from_the_other(block: int) -> None:
    for seed in range(block, PAIRS, BLOCKS):
        assert exporter_channels.differing(*pair(seed)) == {}, f"seed {seed}"


def test_every_channel_says_something_in_these_runs() -> None:
    spoke: Counter[str] = Counter()
    for seed in range(20):
        spoke.update(name for name, said in exporter_channels.run(Twin(Random(seed), 0)).items() if said)
    assert {
        name
        for name in ("OTLP /v1/traces", "OTLP /v1/logs", "OTLP /v1/metrics", "tap", "log")
        if not spoke[name]
    } == set()
    said = exporter_channels.run(Twin(Random(1), 0))
    assert b"llmster_request_success_total" in said["GET /metrics"]
    assert b"reasoning" in said["OTLP /v1/traces"]


class Eavesdropper:
    """Remembers one character of what a model wrote last, in the log stream or across the tap."""

    def __init__(self) -> None:
        self.heard = "-"

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen where outputs are split and where the tap counts deltas."""
        read, delta = OutputReader.read, Meter.delta

        def reading(reader: Any, model: str, output: str, *rest: Any, **more: Any) -> Any:
            self.heard = output[-1:] or "-"
            return read(reader, model, output, *rest, **more)

        def counting(meter: Any, kind: Any, text: str, *rest: Any, **more: Any) -> None:
            self.heard = text[-1:] or "-"
            delta(meter, kind, text, *rest, **more)

        with (
            mock.patch.object(OutputReader, "read", reading),
            mock.patch.object(Meter, "delta", counting),
        ):
            yield


def _text(said: str, heard: str) -> str:
    return said + heard


def _row(said: dict[str, Any], heard: str) -> dict[str, Any]:
    return {**said, "x": heard}


def _report(said: Any, heard: str) -> Any:
    return msgspec.structs.replace(said, error=f"e{ord(heard)}")


def _logged(said: Any, heard: str) -> Any:
    logging.getLogger("exporter").info("noted", extra={"x": heard})
    return said


@pytest.mark.parametrize(
    ("owner", "name", "leak", "channel"),
    [
        (spans, "_phase_name", _text, "OTLP /v1/traces"),
        (content, "log_body", _text, "OTLP /v1/logs"),
        (live, "document", _row, "GET /live"),
        (landing, "page", _text, "GET /"),
        (_Lookup, "model_key", _text, "GET /metrics"),
        (_Lookup, "model_key", _text, "OpenMetrics"),
        (_Lookup, "model_key", _text, "OTLP /v1/metrics"),
        (Exchange, "report", _report, "tap"),
        (spans, "span_count", _logged, "log"),
    ],
)
def test_one_leaked_character_is_found(
    owner: Any, name: str, leak: Callable[[Any, str], Any], channel: str
) -> None:
    eavesdropper = Eavesdropper()
    honest = getattr(owner, name)

    def leaking(*arguments: Any, **keywords: Any) -> Any:
        return leak(honest(*arguments, **keywords), eavesdropper.heard)

    with eavesdropper.listening(), mock.patch.object(owner, name, leaking):
        found: set[str] = set()
        for seed in range(5):
            found |= exporter_channels.differing(*pair(seed)).keys()
    assert channel in found


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_twins_have_one_length_and_no_character_in_common(encoding: str) -> None:
    for cls in CLASSES:
        assert len({(len(one.encode()), len(one.encode("utf-16-le"))) for one in cls}) == 1
    mine, theirs = (Twin(Random(5), turn) for turn in (0, 1))
    for _ in range(50):
        one, other = mine.text(200), theirs.text(200)
        assert len(encode(one, encoding).encode()) == len(encode(other, encoding).encode())
        assert all(a != b for a, b in zip(one, other, strict=True) if a != " ")
