"""Grafana's own TypeScript types judge every generated board, and are seen to catch what we might get wrong."""

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dashboards.kit.alertmanager_variant import without_plugin
from tests.dashboards.asked import NAMES, Json, board, panels
from tests.external import FindTool

NODE = Path(__file__).parent / "node"
_ERROR = re.compile(r"^(?P<file>[\w-]+)\.ts\(\d+,\d+\): error TS\d+.*", re.MULTILINE)


def complaints(node: Path, boards: dict[str, Json], folder: Path) -> dict[str, list[str]]:
    """Type-check boards by name; return what tsc says of each, and of files that are no boards."""
    (folder / "node_modules").symlink_to(NODE / "node_modules")
    for file in ("board.ts", "tsconfig.json", "package.json"):
        shutil.copy(NODE / file, folder)
    for name, data in boards.items():
        literal = json.dumps(data, ensure_ascii=False)
        text = f'import type {{ Board }} from "./board.js";\nexport const board: Board = {literal};\n'
        (folder / f"{name}.ts").write_text(text, encoding="utf-8")
    tsc = NODE / "node_modules" / "typescript" / "bin" / "tsc"
    ran = subprocess.run(
        [node, tsc, "--pretty", "false"], cwd=folder, capture_output=True, text=True, check=False
    )
    found: dict[str, list[str]] = {name: [] for name in boards}
    for match in _ERROR.finditer(ran.stdout):
        found.setdefault(match["file"], []).append(match[0])
    return found


def panel(data: Json, kind: str) -> Json:
    everything = [inner for panel in data["panels"] for inner in (panel, *panel.get("panels", []))]
    found: Json = next(panel for panel in everything if panel["type"] == kind)
    return found


def override(data: Json, key: str) -> Json:
    """The first override property of that id, on any panel."""
    found: Json = next(
        entry
        for one in data["panels"]
        if "fieldConfig" in one
        for override in one["fieldConfig"]["overrides"]
        for entry in override["properties"]
        if entry["id"] == key
    )
    return found


MISTAKES: dict[str, tuple[str, Callable[[Json], object]]] = {
    "an-option-misspelt": ("pulse", lambda b: panel(b, "timeseries")["options"].update(legends={})),
    "an-option-forgotten": ("pulse", lambda b: panel(b, "stat")["options"].pop("textMode")),
    "an-option-of-another-panel": ("pulse", lambda b: panel(b, "stat")["options"].update(rowHeight=1)),
    "an-enum-misspelt": ("pulse", lambda b: panel(b, "stat")["options"].update(colorMode="values")),
    "a-draw-style-misspelt": (
        "pulse",
        lambda b: panel(b, "timeseries")["fieldConfig"]["defaults"]["custom"].update(drawStyle="lines"),
    ),
    "text-for-a-number": (
        "pulse",
        lambda b: panel(b, "timeseries")["fieldConfig"]["defaults"]["custom"].update(fillOpacity="8"),
    ),
    "a-threshold-without-colour": (
        "pulse",
        lambda b: panel(b, "stat")["fieldConfig"]["defaults"]["thresholds"]["steps"][0].pop("color"),
    ),
    "a-mapping-of-no-type": (
        "pulse",
        lambda b: panel(b, "state-timeline")["fieldConfig"]["defaults"]["mappings"][0].update(type="values"),
    ),
    "no-unit": ("pulse", lambda b: panel(b, "stat")["fieldConfig"]["defaults"].pop("unit")),
    "no-description": ("pulse", lambda b: panel(b, "stat").pop("description")),
    "no-query": ("pulse", lambda b: panel(b, "stat").update(targets=[])),
    "a-query-format-misspelt": (
        "pulse",
        lambda b: panel(b, "timeseries")["targets"][0].update(format="timeseries"),
    ),
    "a-heatmap-without-buckets": (
        "pulse",
        lambda b: panel(b, "heatmap")["targets"][0].update(format="time_series"),
    ),
    "instant-and-range-at-once": (
        "pulse",
        lambda b: panel(b, "timeseries")["targets"][0].update(instant=True),
    ),
    "a-colour-mode-of-no-heatmap": (
        "pulse",
        lambda b: panel(b, "heatmap")["options"]["color"].update(mode="rgb"),
    ),
    "a-datasource-by-name": (
        "pulse",
        lambda b: panel(b, "stat")["targets"][0].update(datasource="prometheus"),
    ),
    "a-place-in-text": ("pulse", lambda b: panel(b, "stat")["gridPos"].update(w="4")),
    "an-override-of-nothing": (
        "pulse",
        lambda b: override(b, "custom.lineStyle").update(id="custom.lineStile"),
    ),
    "an-override-of-the-wrong-type": (
        "pulse",
        lambda b: override(b, "custom.lineStyle").update(value="dash"),
    ),
    "a-cell-of-no-type": (
        "forge",
        lambda b: override(b, "custom.cellOptions").update(value={"type": "action"}),
    ),
    "a-button-that-gets": (
        "forge",
        lambda b: override(b, "actions")["value"][0]["fetch"].update(method="GET"),
    ),
    "a-button-that-asks-nothing": ("forge", lambda b: override(b, "actions")["value"][0].pop("confirmation")),
    "a-button-past-the-proxy": (
        "forge",
        lambda b: override(b, "actions")["value"][0]["fetch"].update(url="http://127.0.0.1:9811/v1/x"),
    ),
    "a-button-with-a-token": (
        "forge",
        lambda b: override(b, "actions")["value"][0]["fetch"].update(headers=[["Authorization", "Bearer x"]]),
    ),
    "a-list-the-api-does-not-have": (
        "forge",
        lambda b: next(t for p in panels(b) for t in p["targets"] if "resource" in t).update(
            resource="secrets"
        ),
    ),
    "a-variable-of-no-type": ("forge", lambda b: b["templating"]["list"][0].update(type="dropdown")),
    "a-variable-hidden-somehow": ("forge", lambda b: b["templating"]["list"][0].update(hide=9)),
    "a-crosshair-of-no-kind": ("forge", lambda b: b.update(graphTooltip=5)),
    "a-board-anybody-may-edit": ("forge", lambda b: b.update(editable=True)),
    "an-old-schema": ("forge", lambda b: b.update(schemaVersion=12)),
    "a-key-of-old-grafanas": ("forge", lambda b: b.update(hideControls=False)),
    "a-panel-key-of-old-grafanas": ("pulse", lambda b: panel(b, "stat").update(minSpan=4)),
    "a-transformation-without-id": ("forge", lambda b: panel(b, "table")["transformations"][0].pop("id")),
    "a-link-of-no-type": ("forge", lambda b: b["links"][0].update(type="dashboard")),
    "a-heading-half-done": ("forge", lambda b: panel(b, "row").pop("collapsed")),
}


def spoilt(data: Json, spoil: Callable[[Json], object]) -> tuple[Json, Json]:
    """Copy a board with a mistake, and without: of its panels only the one with the mistake, or the first."""
    mistaken = copy.deepcopy(data)
    spoil(mistaken)
    pairs = [*zip(mistaken["panels"], data["panels"], strict=True)]
    kept = [(one, was) for one, was in pairs if one != was] or pairs[:1]
    return mistaken | {"panels": [one for one, _ in kept]}, data | {"panels": [was for _, was in kept]}


@pytest.mark.external("node")
@pytest.mark.external("@grafana/schema")
def test_grafanas_types_have_nothing_to_say_about_the_boards_and_catch_every_mistake_we_seed(
    external_tool: FindTool, tmp_path: Path
) -> None:
    # All in one go: reading Grafana's types takes seconds.
    boards = {name: board(name) for name in NAMES}
    boards |= {f"{name}-without-plugin": without_plugin(board(name)) for name in ("forge", "toolchain")}
    for name, (source, spoil) in MISTAKES.items():
        boards[name], boards[f"{name}-not-made"] = spoilt(board(source), spoil)
    found = complaints(external_tool("node"), boards, tmp_path)
    assert {name: said for name, said in found.items() if said and name not in MISTAKES} == {}
    assert [name for name in MISTAKES if not found[name]] == []
