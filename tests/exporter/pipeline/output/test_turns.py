"""Whole turns of models that people run, one each: what is reasoned, what is called, and that nothing is left over.

Shapes: chat templates, and the parsers of vLLM and llama.cpp. `prompt` is the end of the prompt.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from exporter.pipeline.output.reader import OutputReader
from exporter.pipeline.output.segments import Kind

TURNS: list[dict[str, Any]] = [
    json.loads(line)
    for line in (Path(__file__).parents[3] / "fixtures" / "model_turns.jsonl").read_text("utf-8").splitlines()
]


@pytest.mark.parametrize("turn", TURNS, ids=lambda turn: turn["model"])
def test_a_turn_is_read_as_its_model_meant_it(turn: dict[str, Any]) -> None:
    reader = OutputReader()
    reading = reader.read("m", turn["output"], reader.opening(turn["prompt"]), called=False)
    assert list(reading.tool_calls) == turn["calls"]
    reasoned = any(part.kind is Kind.REASONING and not part.blank for part in reading.segments)
    assert reasoned is turn["reasons"]
    assert not reading.unrecognised
