"""The causes that alerts name: a closed list, one at a time, told in the annotation; promtool judges.

Whether they are right is judged with the simulator, in tests/causes.
"""

import re
from pathlib import Path
from typing import Any

import pytest

from dashboards.alerts.causes import CAUSES, DAEMON
from dashboards.alerts.groups import ALERTS, NAMING
from dashboards.build import RUNBOOKS
from dashboards.kit.choosing import first_of
from dashboards.kit.labels import named_causes
from dashboards.kit.promql import QueryError, Selector
from dashboards.rules import recording
from exporter.catalogue import hardware as h
from tests.dashboards.alerts.case import BOX, GIB, GPU, HERE, state
from tests.dashboards.alerts.test_groups import PAGES, judge

PAGING = {
    "LlmsterDaemonDown",
    "LlmsterDaemonStalled",
    "LlmsterGenerationStuck",
    "LlmsterTtftBurnFast",
    "LlmsterTtftBurnSlow",
    "LlmsterErrorBurnFast",
    "LlmsterErrorBurnSlow",
    "GpuMemoryNearlyFull",
    "LlmsterEvictedWhileBusy",
    "LlmsterEngineCrashed",
}
ON_HOST = {
    f"llmster_host_memory_total_bytes{{{BOX}}}": f"{64 * GIB}x40",
    f"llmster_host_memory_available_bytes{{{BOX}}}": f"{30 * GIB}x40",
}
STALLED = {**ON_HOST, **state(stalled="0x9 1x30")}
LOST = {f"gpu_device_lost{{{GPU}}}": "0x5 1x34"}
SILENT = {f'gpu_driver_up{{vendor="nvidia",{HERE}}}': "1x4 0x35"}
FULL = {
    f"gpu_memory_free_bytes{{{GPU}}}": f"{GIB // 2}x40",
    f"gpu_memory_total_bytes{{{GPU}}}": f"{24 * GIB}x40",
    f'llmster_vram_unattributed_bytes{{daemon="box",{GPU}}}': "0x40",
    f'gpu_process_memory_bytes{{pid="77",process="llama-server",instance_id="q",{GPU}}}': f"{5 * GIB}x40",
    f'llmster_process_resident_memory_bytes{{pid="77",role="engine",{BOX}}}': f"{GIB}x40",
    f'gpu_process_memory_bytes{{pid="2211",process="blender",instance_id="",{GPU}}}': f"{18 * GIB}x40",
}


def named(series: dict[str, str], expected: dict[str, list[str]], at: str = "30m") -> dict[str, Any]:
    """Expect so many causes of each alert, by its rule."""
    return {
        "interval": "1m",
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f"count by (cause) ({NAMING[alert].name})",
                "eval_time": at,
                "exp_samples": [
                    {"labels": f'{{cause="{cause}"}}', "value": causes.count(cause)} for cause in set(causes)
                ],
            }
            for alert, causes in expected.items()
        ],
    }


def test_every_alert_that_pages_for_a_daemon_has_causes() -> None:
    assert NAMING.keys() == PAGING


def test_causes_are_told_apart_and_explain_alerts_that_exist() -> None:
    names = {alert.name for alert in ALERTS}
    assert len({cause.slug for cause in CAUSES}) == len(CAUSES)
    for cause in CAUSES:
        assert cause.explains
        assert {*cause.explains, *cause.by_crash} <= names
        assert len(cause.name) <= 40


@pytest.mark.parametrize("name", sorted(PAGING))
def test_the_runbook_lists_the_causes_in_their_order(name: str) -> None:
    page = " ".join((PAGES / f"{name}.md").read_text(encoding="utf-8").split())
    found = [cause.name for cause in CAUSES if name in (*cause.explains, *cause.by_crash)]
    assert f"*Named causes*: {', '.join(found)}; or none." in page


def test_the_annotation_tells_cause_object_evidence_and_remedy(promtool: Path, tmp_path: Path) -> None:
    test = named({**ON_HOST, **FULL}, {})
    test["alert_rule_test"] = [
        {
            "eval_time": "30m",
            "alertname": "GpuMemoryNearlyFull",
            "exp_alerts": [
                {
                    "exp_labels": {"severity": "warning", "gpu": "0", "instance": "box:9810"},
                    "exp_annotations": {
                        "summary": "GPU 0 of box:9810 has 2.083% of its VRAM left: "
                        "the next load or long context fails.",
                        "cause": "another process holds the VRAM, process blender, pid 2211, gpu 0 "
                        "(gpu_process_memory_bytes 18GiB). End that process or move it to another GPU, or load "
                        "models that leave room for it.",
                        "runbook_url": RUNBOOKS.replace("{alert}", "GpuMemoryNearlyFull"),
                    },
                }
            ],
        }
    ]
    judge(promtool, [test], tmp_path)


def test_one_cause_is_named_the_nearest_to_the_hardware_and_only_while_the_condition_holds(
    promtool: Path, tmp_path: Path
) -> None:
    alert = "LlmsterDaemonStalled"
    tests = [
        named(STALLED, {alert: []}),
        named(STALLED | SILENT, {alert: ["GPU driver does not answer"]}),
        named(STALLED | SILENT | LOST, {alert: ["GPU lost"]}),
        named(STALLED | SILENT | LOST, {alert: []}, at="8m"),
        # Of a host on which no daemon is.
        named(state(stalled="1x40") | LOST, {alert: []}),
    ]
    judge(promtool, tests, tmp_path)


def test_a_gpu_is_the_cause_for_each_daemon_of_its_host_and_for_no_other(
    promtool: Path, tmp_path: Path
) -> None:
    second = {series.replace('daemon="box"', 'daemon="second"'): values for series, values in STALLED.items()}
    elsewhere = {
        series.replace('daemon="box"', 'daemon="far"').replace("box:9810", "far:9810"): values
        for series, values in STALLED.items()
    }
    test = named(STALLED | second | elsewhere | LOST, {"LlmsterDaemonStalled": ["GPU lost"] * 2})
    judge(promtool, [test], tmp_path)


def test_overview_shows_a_cause_only_with_an_alert_of_the_same_daemon_or_gpu_that_fires(
    promtool: Path, tmp_path: Path
) -> None:
    later = {
        series.replace('daemon="box"', 'daemon="later"'): values
        for series, values in state(stalled="0x29 1x10").items()
    }
    other_gpu = {
        series.replace('gpu="0"', 'gpu="1"'): values.replace(f"{GIB // 2}x40", f"{12 * GIB}x29 {GIB // 2}x10")
        for series, values in FULL.items()
    }
    test = named(
        STALLED
        | later
        | ON_HOST
        | LOST
        | FULL
        | other_gpu
        | {f'llmster_host_memory_total_bytes{{daemon="later",{HERE}}}': f"{64 * GIB}x40"},
        {
            "LlmsterDaemonStalled": ["GPU lost"] * 2,
            "GpuMemoryNearlyFull": ["another process holds the VRAM"] * 2,
        },
    )
    test["promql_expr_test"].append(
        {
            "expr": f"count by (alertname, daemon, gpu) ({named_causes(*recording.GPU).text})",
            "eval_time": "30m",
            "exp_samples": [
                {"labels": '{alertname="LlmsterDaemonStalled",daemon="box",gpu="GPU 0"}', "value": 1},
                {"labels": '{alertname="GpuMemoryNearlyFull",gpu="GPU 0"}', "value": 1},
            ],
        }
    )
    judge(promtool, [test], tmp_path)


def test_where_the_daemons_own_processes_cannot_be_seen_no_process_is_foreign(
    promtool: Path, tmp_path: Path
) -> None:
    seen = {series: values for series, values in FULL.items() if "unattributed" not in series}
    judge(promtool, [named(ON_HOST | seen, {"GpuMemoryNearlyFull": []})], tmp_path)


def test_a_choice_by_a_label_that_one_of_them_lacks_is_refused() -> None:
    lost = Selector().now(h.LOST)
    with pytest.raises(QueryError, match=re.escape("gpu_device_lost has no label daemon")):
        first_of([lost, lost], *DAEMON)
