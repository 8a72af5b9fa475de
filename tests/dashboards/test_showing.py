"""Grafana's own code finds what is wrong with a panel: each fault that it should find is seen to be found."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.dashboards.asked import Json, board, panels
from tests.dashboards.showing import faults
from tests.external import FindTool

pytestmark = pytest.mark.external("node", "@grafana/data")

LABELS = {"daemon": "box", "model": "qwen/qwen3-8b", "instance_id": "qwen/qwen3-8b"}


def instances() -> Json:
    """The table of instances of Forge, with one row: every query answered with the number 1."""
    panel = next(
        one for one in panels(board("forge")) if one["title"] == "Instances" and one["type"] == "table"
    )
    answer = [{"metric": LABELS, "values": [[1764000000, "1"]]}]
    answers = {target["refId"]: answer for target in panel["targets"]}
    return {"board": "forge", "panel": panel, "answers": answers}


def slow_requests() -> Json:
    """The table of slow requests of Pulse, with what Tempo answers for two spans.

    Source: Tempo's GET /api/search, which gives what a query selects and what it compares.
    """
    panel = next(one for one in panels(board("pulse")) if one["title"] == "Slow requests")
    attributes = {
        "service.name": {"stringValue": "llmster"},
        "llmster.daemon": {"stringValue": "box"},
        "gen_ai.request.model": {"stringValue": "qwen/qwen3-8b"},
        "gen_ai.usage.output_tokens": {"intValue": "95"},
        "gen_ai.latency.time_to_first_token": {"doubleValue": 0.25},
        "daemonpulse.reasoning.seconds_estimated": {"doubleValue": 3.5},
    }
    span = {
        "spanID": "633966ad5160ad85",
        "startTimeUnixNano": "1764000000000000000",
        "durationNanos": "9500000000",
        "attributes": [{"key": key, "value": value} for key, value in attributes.items()],
    }
    trace = {
        "traceID": "14ff396b19286685292b71a2ea9d7b7",
        "rootServiceName": "llmster",
        "rootTraceName": "chat",
    }
    return {
        "board": "pulse",
        "panel": panel,
        "answers": {
            "A": [trace | {"spanSets": [{"spans": [span, span | {"durationNanos": "10500000000"}]}]}]
        },
    }


def override(panel: Json, name: str) -> Json:
    """The properties of a column, by their ids."""
    [found] = [one for one in panel["fieldConfig"]["overrides"] if one["matcher"]["options"] == name]
    return {entry["id"]: entry for entry in found["properties"]}


def unmerged(panel: Json) -> None:
    panel["transformations"] = [one for one in panel["transformations"] if one["id"] != "merge"]


def unfiltered(panel: Json) -> None:
    panel["transformations"] = [one for one in panel["transformations"] if one["id"] != "filterFieldsByName"]


def unconverted(panel: Json) -> None:
    panel["transformations"] = [one for one in panel["transformations"] if one["id"] != "convertFieldType"]


def misnamed(panel: Json) -> None:
    panel["fieldConfig"]["overrides"][0]["matcher"]["options"] = "instance"


def unknown_unit(panel: Json) -> None:
    override(panel, "Value #F")["unit"]["value"] = "fortnights"


def wordless(panel: Json) -> None:
    override(panel, "Value #B")["mappings"]["value"] = [
        {"type": "value", "options": {"77": {"text": "Lost"}}}
    ]


def unordered(panel: Json) -> None:
    organize = next(one for one in panel["transformations"] if one["id"] == "organize")
    del organize["options"]["indexByName"]["daemon"]


FAULTS: dict[Callable[[Any], None], str] = {
    unmerged: "tables where one is shown",
    misnamed: "the override for instance matches nothing",
    unknown_unit: "Grafana knows no unit fortnights",
    wordless: "Value #B: 1 has no word",
    unordered: "the columns are",
}
FAULTS_OF_SPANS: dict[Callable[[Any], None], str] = {
    unfiltered: "the columns are",
    unconverted: "stands right and is sorted as string",
}


async def test_every_fault_is_found_and_a_panel_that_is_right_has_none(external_tool: FindTool) -> None:
    # All in one go: loading Grafana's library takes a second.
    shown = [instances() | {"board": "right"}, slow_requests() | {"board": "right"}]
    for make, changes in ((instances, FAULTS), (slow_requests, FAULTS_OF_SPANS)):
        for change in changes:
            wrong = copy.deepcopy(make()) | {"board": change.__name__}
            change(wrong["panel"])
            shown.append(wrong)
    found, judged = await faults(external_tool("node"), shown)
    assert judged == len(shown)
    assert not [one for one in found if one.startswith("right / ")]
    for change, words in (FAULTS | FAULTS_OF_SPANS).items():
        told = [one for one in found if one.startswith(f"{change.__name__} / ")]
        assert any(words in one for one in told), (change.__name__, told)
