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


def override(panel: Json, name: str) -> Json:
    """The properties of a column, by their ids."""
    [found] = [one for one in panel["fieldConfig"]["overrides"] if one["matcher"]["options"] == name]
    return {entry["id"]: entry for entry in found["properties"]}


def unmerged(panel: Json) -> None:
    panel["transformations"] = [one for one in panel["transformations"] if one["id"] != "merge"]


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


async def test_every_fault_is_found_and_a_panel_that_is_right_has_none(external_tool: FindTool) -> None:
    # All in one go: loading Grafana's library takes a second.
    shown = [instances() | {"board": "right"}]
    for change in FAULTS:
        wrong = copy.deepcopy(instances()) | {"board": change.__name__}
        change(wrong["panel"])
        shown.append(wrong)
    found, judged = await faults(external_tool("node"), shown)
    assert judged == len(shown)
    assert not [one for one in found if one.startswith("right / ")]
    for change, words in FAULTS.items():
        told = [one for one in found if one.startswith(f"{change.__name__} / Instances: ")]
        assert any(words in one for one in told), (change.__name__, told)
