"""Prints what each step from a log line to a prediction costs, beside the floor: msgspec decoding alone.

Run it with `python -m tests.benchmarks.bench_events`. CPU time, best of several rounds; ratios travel better
between hosts than the numbers do.
"""

from __future__ import annotations

import json
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from exporter.llmster.events import PredictionOutput, RuntimeLog, parse
from exporter.pipeline.output.splitter import Splitter, split
from exporter.pipeline.predictions import PredictionBuilder
from exporter.pipeline.slots import SlotMonitor

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 5
PROSE = "The quick brown fox jumps over the lazy dog, and nobody minds. " * 100
CODE = "std::vector<int> a[3]; if (x < 3) { foo[i] << b; }\n" * 100
OUTPUTS = {
    "plain": PROSE[:4096],
    "think": f"<think>\n{PROSE[:2000]}\n</think>\n\n{PROSE[:2070]}",
    "code": f"<think>\n{PROSE[:1500]}\n</think>\n\n```cpp\n{CODE[:2540]}\n```\n",
    "gpt-oss": "<|channel|>analysis<|message|>" + PROSE[:2000] + "<|end|><|start|>assistant<|channel|>final<|message|>"
    + PROSE[:2000],
    "tools": f"<think>\n{PROSE[:2000]}\n</think>\n\n<tool_call>\n"
    f'{{"name": "write", "arguments": {{"text": "{PROSE[:2000]}"}}}}\n</tool_call>',
}  # fmt: skip


def line(timestamp_ms: int, **data: Any) -> bytes:
    return json.dumps({"timestamp": timestamp_ms, "data": data}).encode()


def prediction_lines(count: int) -> list[bytes]:
    """Return `count` events: inputs and outputs of 4 KB in turn, every fifth a next turn of its conversation."""
    lines: list[bytes] = []
    prompt = ""
    outputs = list(OUTPUTS.values())
    for number in range(count // 2):
        output = outputs[number % len(outputs)]
        user = f"<|im_start|>user\n{number} {PROSE[:4000]}<|im_end|>\n<|im_start|>assistant\n"
        prompt = f"{prompt[-8000:]}{user}" if number % 5 == 4 else user
        at = 1_786_253_679_909 + 3 * number
        lines.append(
            line(at, type="llm.prediction.input", input=prompt, modelPath="p/m", modelIdentifier="m")
        )
        stats = {
            "stopReason": "eosFound", "tokensPerSecond": 57.24, "numGpuLayers": -1, "timeToFirstTokenSec": 0.058,
            "totalTimeSec": 0.268, "promptTokensCount": 1000, "predictedTokensCount": 1000, "totalTokensCount": 2000,
        }  # fmt: skip
        lines.append(line(at, type="llm.prediction.output", output=output, modelIdentifier="m", stats=stats))
    return lines


def cpu_per_item(work: Callable[[], object], items: int) -> float:
    """Return microseconds of CPU per item, the best of several rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best / items * 1e6


def show(name: str, cost_us: float, floor_us: float) -> None:
    print(f"{name:<44}{cost_us:9.2f} us  {1e6 / cost_us:10,.0f}/CPU-s  {cost_us / floor_us:6.1f} x floor")


def replay(lines: list[bytes]) -> int:
    builder = PredictionBuilder("bench")
    return sum(builder.add(parse(one)) is not None for one in lines)


def repeat(work: Callable[[str], object], text: str, times: int) -> None:
    for _ in range(times):
        work(text)


def feed_all(output: str, size: int) -> int:
    splitter = Splitter()
    for at in range(0, len(output), size):
        splitter.feed(output[at : at + size])
    return len(splitter.finish())


def main() -> None:
    lines = prediction_lines(2000)
    average = sum(map(len, lines)) / len(lines)
    floor = cpu_per_item(lambda: [msgspec.json.decode(one) for one in lines], len(lines))
    print(f"{len(lines)} prediction events, {average:,.0f} bytes on average")
    show("floor: msgspec.json.decode", floor, floor)
    show("events.parse", cpu_per_item(lambda: [parse(one) for one in lines], len(lines)), floor)
    show("parse + PredictionBuilder.add (per event)", cpu_per_item(lambda: replay(lines), len(lines)), floor)
    outputs = [event for one in lines[:200] if isinstance(event := parse(one), PredictionOutput)]
    assert outputs
    for name, output in OUTPUTS.items():
        show(f"split: {name}, 4 KB", cpu_per_item(partial(repeat, split, output, 300), 300), floor)
    streamed = OUTPUTS["think"]
    show(
        "Splitter.feed: think, 4 KB, 16 characters each",
        cpu_per_item(lambda: feed_all(streamed, 16), 1),
        floor,
    )
    slots = SlotMonitor()
    engine = RuntimeLog(
        1, "debug", "slot print_timing: id  1 | task 916 | n_gen = 276, tg = 28.66 t/s, tg_3s = 30.85 t/s",
        "llama.cpp", "2", "llama.cpp", "m", "r", 1,
    )  # fmt: skip
    show("SlotMonitor.add", cpu_per_item(lambda: [slots.add(engine) for _ in range(2000)], 2000), floor)

    print("5 MB outputs")
    scale = 5_000_000 // 4096
    whole_floor = {}
    for name, output in OUTPUTS.items():
        big = (output * scale)[:5_000_000]
        raw = line(1, type="llm.prediction.output", output=big, modelIdentifier="m")
        whole_floor[name] = cpu_per_item(partial(msgspec.json.decode, raw), 1)
        show(f"parse: {name}", cpu_per_item(partial(parse, raw), 1), whole_floor[name])
        show(f"split: {name}", cpu_per_item(partial(split, big), 1), whole_floor[name])
    for piece in ("<", "<think>", "```\n", "[TOOL_CALLS]f{", "\n<think>"):
        big = "x" + piece * (5_000_000 // len(piece))
        show(f"split: {piece!r} over and over", cpu_per_item(partial(split, big), 1), whole_floor["plain"])


if __name__ == "__main__":
    main()
