"""Makes up one busy hour of a daemon on a virtual clock, and adds up what a perfect reader would have counted.

Knows no product code but the types of events and snapshots. Outputs are written by the simulator's own models, so that
what is reasoning is known here without asking the splitter.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from exporter.llmster.events import LogEvent, PredictionInput, PredictionOutput, PredictionStats, RuntimeLog
from exporter.llmster.state import LoadedInstance, Snapshot
from llmster_sim.clock import DEFAULT_START_MS
from llmster_sim.models.catalogue import Family
from llmster_sim.models.generation import generate, new_call
from tests.exporter.readings import instance, snapshot

HOUR_S = 3600.0
SCRAPE_S = 15.0
GUEST_S = 3.0
"""A guest is loaded this often, under a name of its own; the one before it leaves."""
RESTART_S = 60.0
LINE_EVERY = 20
"""A slot's lines come with every so many predictions."""
ORPHAN_EVERY, FORSAKEN_EVERY, BARE_EVERY = 401, 503, 701
"""Outputs without an input, inputs without an output, outputs without stats: one in so many."""
GUEST_KEY = "qwen/qwen3-0.6b"
_RESIDENTS: dict[str, Family] = {
    "qwen/qwen3-8b": "think",
    "openai/gpt-oss-20b": "harmony",
    "google/gemma-3-12b": "gemma",
    "mistralai/magistral-small-2509": "mistral",
}
_INSIDE_TAGS: dict[Family, int] = {"think": 2}
"""Characters between the tags that the simulator writes with them: the line breaks count as reasoned."""
_LOGS_AT_START = "mistralai/magistral-small-2509"
_OPEN_AT_ONCE = 3
_SHAPES_PER_MODEL = 16


@dataclass(slots=True)
class Sums:
    """What a perfect reader has counted."""

    predictions: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    reasoning_tokens: int = 0
    tool_calls: int = 0
    loads: Counter[str] = field(default_factory=Counter)
    unloads: Counter[tuple[str, str]] = field(default_factory=Counter)
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class _Shape:
    """An output and what is true of it."""

    output: str
    tokens: int
    reasoning_tokens: int
    tool_calls: int


class Hour:
    """The traffic of `seconds` with `predictions` evenly spread over them. `events()` can be run once."""

    def __init__(self, *, predictions: int, seconds: float = HOUR_S, line_every: int = LINE_EVERY) -> None:
        self.sums = Sums()
        self.is_on = True
        """False with the last snapshot."""
        self._count = predictions
        self._line_every = line_every
        self._step_ms = seconds * 1000 / predictions
        self._rng = random.Random(7)
        self._shapes = {key: _shapes(self._rng, family) for key, family in _RESIDENTS.items()}
        self._shapes[GUEST_KEY] = self._shapes["qwen/qwen3-8b"]
        self._open: list[tuple[str, _Shape, int]] = []
        self._pid = 4000
        self._references = 0
        self._guests = 0
        self._residents: list[LoadedInstance] = []
        self._guest: LoadedInstance | None = None

    def events(self) -> Iterator[LogEvent | Snapshot]:
        """Yield log events, and a snapshot for every scrape and change, in the order of time."""
        self._start_process(DEFAULT_START_MS)
        yield self._snapshot(DEFAULT_START_MS)
        next_scrape, next_guest, next_restart = SCRAPE_S, GUEST_S, RESTART_S
        for number in range(self._count):
            passed_ms = number * self._step_ms
            now_ms = DEFAULT_START_MS + round(passed_ms)
            if passed_ms >= next_restart * 1000:
                next_restart += RESTART_S
                self._restart(now_ms)
                yield self._snapshot(now_ms)
            if passed_ms >= next_guest * 1000:
                next_guest += GUEST_S
                self._change_guest(now_ms)
                yield self._snapshot(now_ms)
            if passed_ms >= next_scrape * 1000:
                next_scrape += SCRAPE_S
                yield self._snapshot(now_ms)
            yield from self._prediction(number, now_ms)
        end_ms = DEFAULT_START_MS + round(self._count * self._step_ms)
        yield from self._finish_open(end_ms, leave=0)
        self.is_on = False
        yield self._snapshot(end_ms)

    def key_of(self, identifier: str) -> str:
        """Return the model's key of an instance's name."""
        return GUEST_KEY if identifier.startswith("guest-") else identifier

    def _prediction(self, number: int, now_ms: int) -> Iterator[LogEvent]:
        chosen: LoadedInstance | None = self._residents[number % len(self._residents)]
        if number % 10 == 0 and self._guest is not None:
            chosen = self._guest
        assert chosen is not None
        name, key = chosen.info.identifier, chosen.info.model_key
        shape = self._rng.choice(self._shapes[key])
        if number % self._line_every == 0:
            yield _line(chosen, number, now_ms, "processing task, is_child = 0")
        if number % ORPHAN_EVERY:
            prompt = f"<|im_start|>user\n{number} what now?<|im_end|>\n<|im_start|>assistant\n"
            yield PredictionInput(now_ms, name, f"{key}.gguf", prompt)
        if number % FORSAKEN_EVERY == FORSAKEN_EVERY - 1:
            return
        if key == _LOGS_AT_START:
            self._open.append((name, shape, number))
            yield from self._finish_open(now_ms, leave=_OPEN_AT_ONCE)
        else:
            yield self._output(name, shape, number, now_ms)
        if number % self._line_every == 0:
            yield _line(chosen, number, now_ms, "stop processing: n_tokens = 40, truncated = 0")

    def _finish_open(self, now_ms: int, *, leave: int) -> Iterator[LogEvent]:
        while len(self._open) > leave:
            yield self._output(*self._open.pop(0), now_ms)

    def _output(self, name: str, shape: _Shape, number: int, now_ms: int) -> PredictionOutput:
        sums = self.sums
        sums.predictions += 1
        sums.tool_calls += shape.tool_calls
        if number % BARE_EVERY == 0:
            return PredictionOutput(now_ms, name, shape.output, None)
        prompt_tokens = 12 + number % 5
        sums.prompt_tokens += prompt_tokens
        sums.generated_tokens += shape.tokens
        sums.reasoning_tokens += shape.reasoning_tokens
        stats = PredictionStats(
            stop_reason="toolCalls" if shape.tool_calls else "eosFound",
            tokens_per_second=50.0 + number % 7,
            time_to_first_token_s=0.05,
            prompt_tokens=prompt_tokens,
            predicted_tokens=shape.tokens,
        )
        return PredictionOutput(now_ms, name, shape.output, stats)

    # What is loaded

    def _start_process(self, now_ms: int) -> None:
        self._pid += 1
        self._guest = None
        self._residents = [self._instance(key, key, now_ms) for key in _RESIDENTS]

    def _restart(self, now_ms: int) -> None:
        for gone in self._loaded():
            self.sums.unloads[gone.info.model_key, "restart"] += 1
        self._start_process(now_ms)
        self.sums.restarts += 1
        self.sums.loads.update(one.info.model_key for one in self._loaded())

    def _change_guest(self, now_ms: int) -> None:
        """Every other guest leaves because its time is over, the rest because somebody says so."""
        if self._guest is not None:
            self.sums.unloads[GUEST_KEY, "ttl" if self._guest.info.ttl_ms else "other"] += 1
        self._guests += 1
        ttl_ms = GUEST_S * 1000 if self._guests % 2 else None
        self._guest = self._instance(GUEST_KEY, f"guest-{self._guests}", now_ms, ttl_ms=ttl_ms)
        self.sums.loads[GUEST_KEY] += 1

    def _instance(
        self, key: str, identifier: str, now_ms: int, *, ttl_ms: float | None = None
    ) -> LoadedInstance:
        self._references += 1
        return instance(
            f"reference-{self._references}",
            model=key,
            identifier=identifier,
            ttl_ms=ttl_ms,
            last_used_time=float(now_ms),
        )

    def _loaded(self) -> tuple[LoadedInstance, ...]:
        return (*self._residents, self._guest) if self._guest is not None else tuple(self._residents)

    def _snapshot(self, now_ms: int) -> Snapshot:
        return snapshot(*self._loaded(), pid=self._pid, taken_at_s=now_ms / 1000)


def _line(chosen: LoadedInstance, task: int, now_ms: int, text: str) -> RuntimeLog:
    return RuntimeLog(
        now_ms,
        "debug",
        f"slot launch_slot_: id  {task % 4} | task {task} | {text}",
        "llama.cpp",
        "1.0.0",
        "llm",
        chosen.info.identifier,
        chosen.info.instance_reference,
        int(chosen.info.instance_reference.partition("-")[2]),
    )


def _shapes(rng: random.Random, family: Family) -> list[_Shape]:
    """Write short outputs: answers, most with reasoning before them, and one that ends in a tool call."""
    shapes: list[_Shape] = []
    for number in range(_SHAPES_PER_MODEL):
        calls = [new_call(rng=rng, name="search_files", arguments={"query": "x"})] if number == 0 else []
        made = generate(
            rng=rng,
            family=family,
            reasoning_words=rng.randrange(2, 9) if number % 4 else 0,
            answer_words=rng.randrange(2, 9),
            calls=calls,
        )
        thought, said = len(made.of("reasoning")), len(made.of("message"))
        thought += _INSIDE_TAGS.get(family, 0) if thought else 0
        share = thought / (thought + said)
        shapes.append(_Shape(made.text, made.token_count, round(made.token_count * share), len(calls)))
    return shapes
