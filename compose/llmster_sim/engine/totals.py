"""Keep the exact truth about what the daemon did, for tests to compare sums with.

Does not depend on observers; `logged_*` are the sums that a perfect reader of the log stream gets.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmster_sim.engine.jobs import Stats
    from llmster_sim.models.generation import Generation


@dataclasses.dataclass(slots=True, kw_only=True)
class Totals:
    """Running sums since the simulator was made; a restart of the daemon does not reset them.

    `predictions` counts ended ones that left output, `failed` those whose client got an error; embeddings are in
    neither.
    """

    predictions: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    reasoning_tokens: int = 0
    reasoning_characters: int = 0
    output_characters: int = 0
    tool_calls: int = 0
    failed: int = 0
    embeddings: int = 0
    draft_tokens: int = 0
    logged_predictions: int = 0
    logged_with_stats: int = 0
    logged_prompt_tokens: int = 0
    logged_generated_tokens: int = 0
    loads: int = 0
    failed_loads: int = 0
    unloads: int = 0
    ttl_unloads: int = 0
    crashes: int = 0
    by_stop_reason: Counter[str] = dataclasses.field(default_factory=Counter)
    by_model: Counter[str] = dataclasses.field(default_factory=Counter)
    tools: Counter[str] = dataclasses.field(default_factory=Counter)

    def add(self, *, model_key: str, generation: Generation, stats: Stats) -> None:
        """Count one finished prediction."""
        self.predictions += 1
        self.prompt_tokens += stats.prompt_tokens
        self.generated_tokens += stats.predicted_tokens
        self.reasoning_tokens += generation.count("reasoning")
        self.reasoning_characters += len(generation.of("reasoning"))
        self.output_characters += len(generation.text)
        self.tool_calls += len(generation.calls)
        self.tools.update(call.name for call in generation.calls)
        self.draft_tokens += stats.draft_total
        self.by_stop_reason[stats.stop_reason] += 1
        self.by_model[model_key] += 1

    def add_logged(self, stats: Stats | None) -> None:
        """Count one output event as the stream carried it."""
        self.logged_predictions += 1
        if stats is not None:
            self.logged_with_stats += 1
            self.logged_prompt_tokens += stats.prompt_tokens
            self.logged_generated_tokens += stats.predicted_tokens
