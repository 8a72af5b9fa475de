"""Every alert fires when it should, says what it means, and is silent when it should be; promtool judges."""

import functools
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.alerts.alert import CRITICAL, INFO, WARNING
from dashboards.alerts.groups import ALERTS, CAUSE_RULES, NAMING
from dashboards.build import RUNBOOKS
from dashboards.rules.groups import RECORDINGS
from tests.dashboards.alerts import daemon_cases, gpu_cases, site_cases
from tests.dashboards.alerts.case import Case
from tests.dashboards.asked import BY_NAME as METRICS
from tests.dashboards.asked import ROOT, RULE_FILES, board, catalogued, rules
from tests.external import FindTool

CASES = daemon_cases.CASES | gpu_cases.CASES | site_cases.CASES
BY_NAME = {alert.name: alert for alert in ALERTS}
PAGES = ROOT / "docs" / "runbook"
HEADINGS = ("## What it means", "## How to check", "## What to do", "## When to ignore it")


def promtool_test(case: Case, name: str, series: dict[str, str], *, fires: bool) -> dict[str, Any]:
    expected = {
        "exp_labels": {**case.labels, "severity": BY_NAME[name].severity},
        "exp_annotations": {
            "summary": case.summary,
            "runbook_url": RUNBOOKS.replace("{alert}", name),
            **({"cause": case.cause} if name in NAMING else {}),
        },
    }
    return {
        "interval": "1m",
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "alert_rule_test": [
            {"eval_time": case.at, "alertname": name, "exp_alerts": [expected] if fires else []}
        ],
    }


def judge(
    promtool: Path, tests: list[dict[str, Any]], folder: Path, files: Sequence[Path] = RULE_FILES
) -> None:
    path = folder / "test.yaml"
    content = {"rule_files": [str(file) for file in files], "evaluation_interval": "1m", "tests": tests}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    ran = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_has_its_cases() -> None:
    assert CASES.keys() == BY_NAME.keys()


def test_promtool_accepts_every_rule_file(promtool: Path) -> None:
    assert len(RULE_FILES) == 2
    ran = subprocess.run(
        [promtool, "check", "rules", *RULE_FILES],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@functools.cache
def every_group() -> dict[Path, list[dict[str, Any]]]:
    """Read the groups of the rule files."""
    return {file: yaml.safe_load(file.read_text(encoding="utf-8"))["groups"] for file in RULE_FILES}


def only(name: str, folder: Path, *, causes: bool = False) -> list[Path]:
    """Write the rule files with one alert in them, what it reads, and what that reads; its cause only if wanted."""
    groups = every_group()
    texts: dict[str, str] = {}
    for rule in (rule for found in groups.values() for group in found for rule in group["rules"]):
        told = rule.get("alert") or rule["record"]
        texts[told] = f"{texts.get(told)} {rule['expr']} {rule.get('annotations') if causes else ''}"
    kept = set[str]()
    new = {name}
    while new:
        kept |= new
        new = {read for one in new for read in re.findall(r"\w+(?::\w+)+", texts[one])} & texts.keys() - kept
    files = []
    for file, found in groups.items():
        small = [
            {
                **group,
                "rules": [rule for rule in group["rules"] if kept & {rule.get("alert"), rule.get("record")}],
            }
            for group in found
        ]
        files.append(folder / file.name)
        files[-1].write_text(yaml.safe_dump({"groups": small}), encoding="utf-8")
    return files


@pytest.mark.parametrize("name", CASES)
def test_the_alert_fires_and_says_what_it_means(promtool: Path, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    files = only(name, tmp_path, causes=name in NAMING)
    judge(promtool, [promtool_test(case, name, case.fires, fires=True)], tmp_path, files)


def test_an_alert_about_waiting_calls_goes_on_over_the_gaps_between_them(
    promtool: Path, tmp_path: Path
) -> None:
    name = "McpApprovalWaiting"
    case = CASES[name]
    coming = dict.fromkeys(case.fires, "2x5 0x8 2x5 0x8 2x20")
    firing = f'ALERTS{{alertname="{name}",alertstate="firing",instance="box:9810",job="daemonpulse",severity="info"}}'
    gap = promtool_test(case, name, coming, fires=True) | {
        "alert_rule_test": [],
        "promql_expr_test": [
            {"expr": firing, "eval_time": at, "exp_samples": [{"labels": firing, "value": 1}]}
            for at in ("4m", "10m", "16m", "24m", "30m")
        ],
    }
    judge(promtool, [gap], tmp_path)


@pytest.mark.external("promtool")
@pytest.mark.parametrize("name", CASES)
def test_the_alert_is_silent_when_all_is_nearly_as_bad_and_while_what_it_is_about_is_absent(
    external_tool: FindTool, tmp_path: Path, name: str
) -> None:
    case = CASES[name]
    tests = [promtool_test(case, name, case.quiet, fires=False)]
    if case.fires:
        # The first of its series is what the alert is about; a guard that is missing is no reason to be silent.
        tests.append(promtool_test(case, name, dict(list(case.fires.items())[1:]), fires=False))
    tests.append(promtool_test(case, name, {}, fires=name == "LlmsterNotWatched"))
    judge(external_tool("promtool"), tests, tmp_path, only(name, tmp_path))


def test_rules_name_only_catalogued_metrics() -> None:
    found = {metric for rule in rules() for metric in catalogued(rule["expr"])}
    assert found <= METRICS.keys()
    assert len(found) > 30


def test_rules_read_only_recorded_series_that_exist() -> None:
    recorded = {rule.name for rule in (*RECORDINGS, *CAUSE_RULES)}
    read = {name for rule in rules() for name in re.findall(r"\b\w+:\w+:\w+\b", rule["expr"])}
    assert read
    assert read <= recorded


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_the_alert_has_a_severity_a_short_sentence_and_a_runbook_page(alert: Any) -> None:
    assert alert.severity in {CRITICAL, WARNING, INFO}
    assert len(CASES[alert.name].summary) <= 120
    page = (PAGES / f"{alert.name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {alert.name}\n")
    assert [line for line in page.splitlines() if line.startswith("## ")] == list(HEADINGS)
    parts = re.split(r"^## .*$", page, flags=re.MULTILINE)
    assert all(part.strip() for part in parts[1:])


def test_no_runbook_page_is_left_behind() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} - {"README"} == BY_NAME.keys()


def italics_by_board(page: str) -> list[tuple[str, str]]:
    """Pair every *name* of a bullet that begins with "Board X" (or names one) with that board."""
    found = []
    for bullet in re.split(r"\n(?=- |\d+\. |#|\n)", page):
        match = re.search(r"[Bb]oard (Overview|Fleet|Forge|Pulse|Toolchain|Console|Economics|SLO)", bullet)
        if match is not None:
            names = re.findall(r"\*([^*]+)\*", " ".join(bullet.split()))
            found += [(match[1].lower(), name) for name in names]
    return found


@pytest.mark.parametrize("path", sorted(PAGES.glob("*.md")), ids=lambda path: path.stem)
def test_runbooks_point_at_panels_columns_and_buttons_that_exist(path: Path) -> None:
    for name, wanted in italics_by_board(path.read_text(encoding="utf-8")):
        words = set(re.findall(r"'(?:title|value)': '([^']*)'", str(board(name)["panels"])))
        assert wanted in words, f"board {name} has no {wanted!r}"


def test_recorded_ratios_are_right_and_0_where_nothing_failed(promtool: Path, tmp_path: Path) -> None:
    ended = 'llmster_request_success_total{daemon="box",model="m",finished_reason="stop"}'
    slow = 'llmster_request_success_total{daemon="box",model="n",finished_reason="error"}'
    fine = 'llmster_request_success_total{daemon="box",model="n",finished_reason="stop"}'
    untold = 'llmster_request_success_total{daemon="box",model="n",finished_reason="unknown"}'
    ratio = "daemon_model:llmster_requests_failed:ratio_rate5m"
    tests = [
        {
            "interval": "1m",
            "input_series": [
                {"series": ended, "values": "0+6x20"},
                {"series": slow, "values": "0+3x20"},
                {"series": fine, "values": "0+9x20"},
                {"series": untold, "values": "0+12x20"},
            ],
            "promql_expr_test": [
                {
                    "expr": ratio,
                    "eval_time": "15m",
                    "exp_samples": [
                        {"labels": f'{ratio}{{daemon="box",model="m"}}', "value": 0},
                        {"labels": f'{ratio}{{daemon="box",model="n"}}', "value": 0.25},
                    ],
                },
                {
                    "expr": "daemon_model:llmster_requests:rate5m * 60",
                    "eval_time": "15m",
                    "exp_samples": [
                        {"labels": '{daemon="box",model="m"}', "value": 6},
                        {"labels": '{daemon="box",model="n"}', "value": 24},
                    ],
                },
            ],
        }
    ]
    judge(promtool, tests, tmp_path)


def test_settings_and_modes_that_differ_count_for_each_site_by_itself(promtool: Path, tmp_path: Path) -> None:
    mode = 'llmster_config_guardrails{{mode="{mode}",daemon="{name}",instance="{name}"}}'
    ttl = 'llmster_config_jit_ttl_seconds{{daemon="{name}",instance="{name}"}}'
    site = 'llmster_site_info{{site="{site}",daemon="{name}",instance="{name}"}}'
    series = [
        (site.format(site="berlin", name="a"), 1),
        (site.format(site="berlin", name="b"), 1),
        (site.format(site="munich", name="c"), 1),
        *(
            (mode.format(mode=mode_, name=name), 1)
            for name, mode_ in (("a", "high"), ("b", "low"), ("c", "off"))
        ),
        *(
            (ttl.format(name=name), value)
            for name, value in (("a", 60), ("b", 60), ("c", 3600), ("alone", 5))
        ),
    ]
    recorded = "site_setting:llmster_config:values"
    found = {("berlin", "guardrails"): 2, ("berlin", "jit_ttl_seconds"): 1}
    found |= {("munich", "guardrails"): 1, ("munich", "jit_ttl_seconds"): 1}
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": f"{value}x5"} for name, value in series],
        "promql_expr_test": [
            {
                "expr": recorded,
                "eval_time": "5m",
                "exp_samples": [
                    {"labels": f'{recorded}{{site="{place}",setting="{name}"}}', "value": count}
                    for (place, name), count in found.items()
                ],
            }
        ],
    }
    judge(promtool, [test], tmp_path)
