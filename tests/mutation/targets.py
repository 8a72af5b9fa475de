"""Says which modules are mutated and which tests are theirs.

Knows nothing of how a mutant is made or run.
"""

from dataclasses import dataclass
from typing import Final

_PIPELINE: Final = "tests/exporter/pipeline/"


@dataclass(frozen=True, slots=True)
class Target:
    """One module, and the only tests that count for it."""

    module: str
    tests: tuple[str, ...]


# What any output costs to split (test_any_output.py) takes too long to be measured for every mutant.
_ANY_OUTPUT: Final = (
    _PIPELINE + "test_any_output.py::test_any_chunking_gives_the_same_segments",
    _PIPELINE + "test_any_output.py::test_segments_tile_the_output",
)
_FAMILIES: Final = _PIPELINE + "test_model_families.py"

TARGETS: Final = {
    "reasoning": Target(
        "exporter/pipeline/output/splitter.py",
        (_PIPELINE + "test_reasoning.py", _PIPELINE + "test_segments.py", _FAMILIES, *_ANY_OUTPUT),
    ),
    "tags": Target("exporter/pipeline/output/families.py", (_PIPELINE + "test_tags.py", _FAMILIES)),
    "predictions": Target(
        "exporter/pipeline/predictions.py",
        (
            _PIPELINE + "test_predictions.py",
            _PIPELINE + "test_conversations.py",
            _PIPELINE + "test_prediction_ids.py",
        ),
    ),
    "pairing": Target("exporter/pipeline/pairing.py", (_PIPELINE + "test_pairing.py",)),
    "slots": Target(
        "exporter/pipeline/slots.py", (_PIPELINE + "test_slots.py", _PIPELINE + "test_slot_lines.py")
    ),
    "policy": Target("actions/domain/policy.py", ("tests/actions/domain/test_policy.py",)),
    "preflight": Target("actions/domain/preflight.py", ("tests/actions/domain/test_preflight.py",)),
    "attribution": Target(
        "exporter/hardware/attribution.py", ("tests/exporter/hardware/test_attribution.py",)
    ),
    "promql": Target(
        "dashboards/kit/promql.py",
        ("tests/dashboards/kit/test_promql.py", "tests/dashboards/test_query_results.py"),
    ),
    "gates": Target("actions/mcp/policy/rules.py", ("tests/actions/mcp/policy/test_rules.py",)),
    "constraints": Target(
        "actions/mcp/policy/constraints.py", ("tests/actions/mcp/policy/test_constraints.py",)
    ),
}
