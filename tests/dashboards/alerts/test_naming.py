"""The rules and annotations that name causes are those that are shipped, whenever they are written."""

from typing import Any

import pytest
import yaml

from dashboards.alerts import causes, naming
from dashboards.alerts.alert import Alert
from dashboards.alerts.causes import CAUSES, Cause
from dashboards.alerts.groups import ALERTS, NAMING
from dashboards.build import GENERATED
from dashboards.kit.promql import QueryError, Selector
from dashboards.rules.recording import GPU
from exporter.catalogue import daemon as d
from exporter.catalogue import hardware as h


@pytest.fixture(scope="module")
def shipped() -> dict[str, Any]:
    """Every rule that is shipped, by the name of its series or alert."""
    files = [yaml.safe_load(file.read_text()) for file in (GENERATED / "rules").glob("daemonpulse-*.yaml")]
    rules = [rule for file in files for group in file["groups"] for rule in group["rules"]]
    return {rule.get("record") or rule["alert"]: rule for rule in rules}


def test_the_evidence_of_each_cause_is_recorded_as_shipped(shipped: dict[str, Any]) -> None:
    for cause in CAUSES:
        made = naming._evidence(cause)
        rule = shipped[made.name]
        assert made.name.partition(":")[0] == ("daemon" if cause.of_daemon else "gpu")
        assert rule["labels"] == dict(made.fixed)
        assert rule["labels"].keys() == {"cause", "evidence", "remedy"}
        assert rule["expr"] == made.expr.text
        assert set(made.labels) == (cause.evidence.labels or frozenset()) | rule["labels"].keys()


def test_the_cause_of_each_alert_is_named_as_shipped(shipped: dict[str, Any]) -> None:
    made = naming.naming_rules(ALERTS)
    assert made.keys() == NAMING.keys()
    for alert in ALERTS:
        if alert.name not in made:
            assert "cause" not in shipped[alert.name]["annotations"]
            continue
        rule = made[alert.name]
        assert shipped[rule.name]["expr"] == rule.expr.text
        assert shipped[rule.name]["labels"] == {"alertname": alert.name}
        assert naming.annotation(alert, rule) == shipped[alert.name]["annotations"]["cause"]
        assert set(rule.labels) == (rule.expr.labels or frozenset()) | {"alertname"}
        assert naming._key(alert) == (("daemon",) if "daemon" in (alert.expr.labels or ()) else GPU)


def test_evidence_is_the_same_whenever_it_is_written() -> None:
    texts = [cause.evidence.text for cause in CAUSES]
    for expr in (
        causes._foreign_process(),
        causes._idle_though_running(),
        causes._jit_eviction(),
        causes._leak(),
    ):
        assert expr.text in texts
    assert any(causes._mean_prompt().text in text for text in texts)
    assert {causes._failed("kv_exhausted").text, causes._failed("too_large").text} <= set(texts)


def test_a_cause_needs_a_series_and_a_sentence() -> None:
    evidence = Selector().now(d.UP)
    with pytest.raises(
        QueryError, match=r"^Nothing: a cause has a metric as evidence, and a sentence as remedy$"
    ):
        Cause("Nothing", evidence, ("LlmsterDaemonDown",), "no sentence")
    fine = Cause("GPU lost, or so", evidence, ("LlmsterDaemonDown",), "A sentence.")
    assert (fine.slug, fine.of_daemon) == ("gpu_lost_or_so", True)
    assert not Cause("x", Selector().now(h.TEMPERATURE), (), "A sentence.").of_daemon


def test_an_alert_without_causes_has_no_rule() -> None:
    alert = next(alert for alert in ALERTS if alert.name not in NAMING)
    assert isinstance(alert, Alert)
    assert naming.naming_rules([alert]) == {}
