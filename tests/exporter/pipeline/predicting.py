"""Makes the events of predictions, and predictions from them.

Knows no expectation: what must come out is said by the tests.
"""

from typing import Any

from exporter.llmster.events import (
    LogEvent,
    PredictionInput,
    PredictionOutput,
    PredictionStats,
)
from exporter.pipeline.predictions import (
    Prediction,
    PredictionBuilder,
)

END = 1_786_253_679_909
USER = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


def given_input(prompt: str, at_ms: int = END, model: str = "m") -> PredictionInput:
    return PredictionInput(at_ms, model, f"publisher/{model}", prompt)


def given_output(output: str, at_ms: int = END, model: str = "m", **stats: Any) -> PredictionOutput:
    return PredictionOutput(at_ms, model, output, PredictionStats(**{"stop_reason": "eosFound", **stats}))


def predict(*events: LogEvent, **settings: Any) -> list[Prediction]:
    builder = PredictionBuilder("local", **settings)
    return [prediction for event in events if (prediction := builder.add(event)) is not None]


def one(output: str, prompt: str = USER.format("hi"), **stats: Any) -> Prediction:
    (prediction,) = predict(given_input(prompt), given_output(output, **stats))
    return prediction
