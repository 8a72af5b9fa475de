"""Everything the generated files ask, taken from the files themselves: what users import is what is tested."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from exporter.catalogue import CATALOGUE, actions, mcp

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "dashboards" / "generated"
NAMES = ("overview", "fleet", "forge", "pulse", "toolchain", "console", "economics", "slo")
RULE_FILES = tuple(sorted((GENERATED / "rules").glob("daemonpulse-*.yaml")))

BY_NAME = {row.name: row for row in (*CATALOGUE, *actions.ROWS, *mcp.ROWS)}
_METRIC = re.compile(r"\b(?:llmster|gpu|daemonpulse|process|mcp_server)_[a-z0-9_]+\b")
_LABEL_VALUES = re.compile(r"label_values\((?P<selector>.*), (?P<label>\w+)\)|query_result\((?P<query>.*)\)")

FOLD = 19
"""Grid rows of 38 px that a screen of 900 lines shows below Grafana's own bars."""

Json = dict[str, Any]


def board(name: str) -> Json:
    """Read a generated board."""
    data: Json = json.loads((GENERATED / f"{name}.json").read_text(encoding="utf-8"))
    return data


def panels(data: Json) -> list[Json]:
    """List its panels, those of closed rows too, without the headings."""
    found = [inner for panel in data["panels"] for inner in (panel, *panel.get("panels", []))]
    return [panel for panel in found if panel["type"] != "row"]


def variables(data: Json) -> dict[str, Json]:
    """Give its variables by name."""
    return {variable["name"]: variable for variable in data["templating"]["list"]}


def queries_of(panel: Json, kind: str = "prometheus") -> list[Json]:
    """List a panel's queries of one kind of datasource."""
    return [target for target in panel["targets"] if target["datasource"]["type"] == kind]


@dataclass(frozen=True)
class Asked:
    """One PromQL query, where it is asked, and the metrics it names."""

    where: str
    promql: str
    metrics: frozenset[str]


def chosen(data: Json) -> dict[str, str]:
    """Give every variable a value, as a reader who chose nothing has it."""
    values = {"__rate_interval": "1m", "__range": "1m", "__interval": "5s"}
    for name, variable in variables(data).items():
        if variable["type"] == "query":
            values[name] = variable.get("allValue", ".*")  # of a list, which is not known here, all
        elif variable["type"] in {"custom", "textbox"}:
            values[name] = variable["current"]["value"]
    return values


def substituted(text: str, values: dict[str, str]) -> str:
    """Put values for variables; a variable without one is an error."""
    return re.sub(r"\$([a-z_]\w*)", lambda match: values[match.group(1)], text)


def catalogued(promql: str) -> frozenset[str]:
    """Find the metrics a query names; _bucket, _sum and _count belong to their histogram. KeyError for unknown ones."""
    found = set()
    for name in _METRIC.findall(re.sub(r'"[^"]*"|\w+:\w+:\w+|by \([^)]*\)', "", promql)):
        plain = name if name in BY_NAME else re.sub(r"_(bucket|sum|count)$", "", name)
        found.add(BY_NAME[plain].name)
    return frozenset(found)


def board_queries(name: str) -> Iterator[Asked]:
    """List all PromQL of a board: panels and annotations."""
    data = board(name)
    values = chosen(data)
    for panel in panels(data):
        for target in queries_of(panel):
            promql = substituted(target["expr"], values)
            yield Asked(f"{name} / {panel['title']} / {target['refId']}", promql, catalogued(promql))
    for note in data["annotations"]["list"]:
        promql = substituted(note["expr"], values)
        yield Asked(f"{name} / annotation / {note['name']}", promql, catalogued(promql))


def variable_queries(name: str) -> Iterator[tuple[str, str, str]]:
    """List a board's variables as (where, query, label); of query_result() the label is the one of its regex."""
    data = board(name)
    values = chosen(data)
    for variable in variables(data).values():
        if variable["type"] == "query":
            match = _LABEL_VALUES.fullmatch(variable["query"]["query"])
            assert match is not None, variable
            query, label = match["selector"] or match["query"], match["label"]
            if label is None:
                (label,) = re.findall(r'(\w+)="\(\?<value>', variable["regex"])
            yield f"{name} / ${variable['name']}", substituted(query, values), label


def rules() -> Iterator[Json]:
    """List all generated rules."""
    for path in RULE_FILES:
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            yield from group["rules"]


def rule_metrics() -> frozenset[str]:
    """Name all series of programs that rules read, as they are exposed: with _bucket, _sum and _count."""
    return frozenset(
        name
        for rule in rules()
        for name in _METRIC.findall(re.sub(r'"[^"]*"|\w+:\w+:\w+|by \([^)]*\)', "", rule["expr"]))
    )
