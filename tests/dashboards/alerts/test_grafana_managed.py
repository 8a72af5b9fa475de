"""Every rule can be imported as a rule of Grafana's own alerting, as far as that can be told without Grafana.

Grafana's import (mimirtool, its convert API, its page for YAML files) takes Prometheus' rule groups. What it can hold
is in pkg/services/ngalert/prom of its sources: models.go has the keys, convert.go makes of an alert one instant query
that fires for each series it returns. A number in a summary is written by functions that both have.
"""

import re
from typing import Any

import pytest
import yaml

from tests.dashboards.asked import GENERATED

FILES = sorted((GENERATED / "rules").glob("*.yaml"))
GROUP_KEYS = {"name", "interval", "rules", "query_offset", "labels"}
"""`limit` is refused."""
RULE_KEYS = {"alert", "record", "expr", "for", "keep_firing_for", "labels", "annotations"}
DURATION = re.compile(r"(?:[1-9]\d*d)?(?:[1-9]\d*h)?(?:[1-9]\d*m)?(?:[1-9]\d*s)?")
LONGEST_TITLE = 190
"""Of a rule, and of a group: columns of Grafana's database."""
OWN_LABEL = "__grafana_alert_rule_uid__"
FUNCTIONS = {"humanize", "humanize1024", "humanizeDuration", "humanizePercentage", "printf"}
TEMPLATE = re.compile(r"\{\{(.*?)\}\}")


def groups() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{path.stem}/{group['name']}", group)
        for path in FILES
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    ]


GROUPS = groups()
RULES = [(where, rule) for where, group in GROUPS for rule in group["rules"]]
ALERTS = [rule for _, rule in RULES if "alert" in rule]


@pytest.mark.parametrize(("where", "group"), GROUPS, ids=[where for where, _ in GROUPS])
def test_a_group_has_only_what_grafana_takes(where: str, group: dict[str, Any]) -> None:
    assert group.keys() <= GROUP_KEYS, where
    assert 0 < len(group["name"]) <= LONGEST_TITLE
    assert "/" not in group["name"], "a group's name is a part of a path"
    titles = [rule.get("alert") or rule["record"] for rule in group["rules"]]
    assert len(set(titles)) == len(titles), "titles are unique in a folder"


def test_every_rule_has_only_what_grafana_takes() -> None:
    assert len(RULES) > 100
    for where, rule in RULES:
        assert rule.keys() <= RULE_KEYS, where
        assert ("alert" in rule) is not ("record" in rule)
        assert len(rule.get("alert") or rule["record"]) <= LONGEST_TITLE
        assert rule["expr"].strip()
        assert OWN_LABEL not in rule.get("labels", {})
        for key in ("for", "keep_firing_for"):
            assert DURATION.fullmatch(rule.get(key, "1m")), where
        for text in (*rule.get("labels", {}).values(), *rule.get("annotations", {}).values()):
            assert isinstance(text, str), f"{where}: a number or a date"


def test_titles_of_alerts_are_unique_over_all_groups_of_a_folder() -> None:
    titles = [rule["alert"] for rule in ALERTS]
    assert len(set(titles)) == len(titles) > 40


def test_alerts_fire_for_each_series_of_their_query_so_none_may_return_series_while_all_is_well() -> None:
    # A comparison filters. With bool it returns 0 for what is well, and Grafana would fire for that as well.
    for rule in ALERTS:
        text = re.sub(r'"[^"]*"', '""', rule["expr"])
        assert re.search(r"(==|!=|<|>| and | unless |\babsent\()", text), rule["alert"]
        assert " bool " not in text, rule["alert"]


def test_recorded_names_are_names_of_metrics() -> None:
    for _, rule in RULES:
        if "record" in rule:
            assert re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", rule["record"])


def test_summaries_use_functions_that_grafana_has() -> None:
    for rule in ALERTS:
        for name in rule["annotations"].keys() - {"cause"}:
            for inside in TEMPLATE.findall(rule["annotations"][name]):
                source, *piped = (part.strip() for part in inside.split("|"))
                assert re.fullmatch(r"\$value|\$labels\.\w+", source), rule["alert"]
                assert {part.split()[0] for part in piped} <= FUNCTIONS, rule["alert"]


def test_an_annotation_that_asks_prometheus_is_empty_where_a_query_has_no_answer() -> None:
    # In Grafana query() is there, and always empty: pkg/services/ngalert/state/template/template.go.
    asking = [text for rule in ALERTS if (text := rule["annotations"].get("cause"))]
    assert len(asking) > 5
    for text in asking:
        assert text.startswith("{{ range query (printf "), text
        blocks = re.findall(r"\{\{ (range|with|if|end)\b", text)
        depth = 0
        for number, word in enumerate(blocks, start=1):
            depth += -1 if word == "end" else 1
            assert depth > 0 or number == len(blocks), "nothing stands outside of the range"
        assert text.endswith("{{ end }}")
