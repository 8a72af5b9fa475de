"""What is known of a query's result: its unit, its labels, and the series it reads."""

import re

import pytest

from dashboards.alerts.alert import Alert
from dashboards.alerts.groups import ALERTS
from dashboards.kit.labels import OBJECT
from dashboards.kit.promql import (
    Expr,
    Selector,
    absent,
    both,
    coded,
    count_by,
    now,
    recorded,
    share,
    sum_by,
    variable,
)
from exporter.catalogue import daemon as d
from exporter.catalogue import hardware as h
from exporter.catalogue import log_stream as s

P = Selector(window="5m")


def test_units_follow_the_numbers() -> None:
    assert P.now(h.POWER).unit == "watts"
    assert P.rate(s.GENERATION_TOKENS).unit == "tokens/s"
    assert P.increase(s.GENERATION_TOKENS).unit == "tokens"
    assert P.over("deriv", h.PROCESS_RESIDENT, "1h").unit == "bytes/s"
    assert share(sum_by(P.now(h.POWER)), sum_by(P.now(h.POWER_LIMIT))).unit == "ratio"
    assert count_by(P.now(h.POWER)).unit == ""
    assert (P.now(h.POWER) + P.now(h.POWER)).unit == "watts"
    assert (P.now(h.POWER) - 1).unit == "watts"
    assert (P.now(h.POWER) > 1).unit == (P.now(h.POWER) < 1).unit == "watts"
    assert P.now(h.POWER).equals(1).unit == "watts"
    assert (P.now(h.POWER) * 2).unit == (P.now(h.POWER) / 2).unit == ""
    assert P.quantile(0.5, s.TTFT).unit == "seconds"
    assert P.rate_of_sum(s.TTFT).unit == "seconds/s"
    assert P.slower(s.TTFT, 2.5).unit == "ratio"
    assert P.over("avg_over_time", h.POWER, "1h").unit == "watts"
    assert P.newly(s.GENERATION_TOKENS, "5m").unit == "tokens"
    assert recorded("daemon:x_y:sum", unit="bytes").unit == "bytes"
    assert recorded("daemon:x_y:sum").unit == absent(P.now(h.POWER)).unit == ""
    assert coded(P, d.STATE, ("down", "running"), "daemon").unit == ""
    assert now().unit == "seconds"


def labels_of(expr: Expr) -> set[str]:
    assert expr.labels is not None
    return set(expr.labels)


def test_labels_follow_the_series() -> None:
    by_gpu = sum_by(P.now(h.POWER), "gpu")
    assert labels_of(P.now(d.UP)) == {"daemon", "job", "instance"}
    assert labels_of(P.quantile(0.5, s.TTFT, "model")) == {"model"}
    assert labels_of(P.heat(s.TTFT)) == {"le"}
    assert "le" not in labels_of(P.rate_of_sum(s.TTFT))
    assert labels_of(by_gpu) == labels_of(by_gpu > now()) == labels_of(now() - by_gpu) == {"gpu"}
    assert labels_of(absent(P.now(d.UP))) == set()
    assert labels_of(recorded("daemon:x_y:sum", "daemon")) == {"daemon"}
    assert variable("kwh").labels is None


def test_every_series_a_query_reads_is_known() -> None:
    expr = share(sum_by(P.rate(s.REQUESTS, finished_reason="stop")), sum_by(P.rate(s.REQUESTS)))
    assert expr.selectors == (
        'llmster_request_success_total{finished_reason="stop"}',
        "llmster_request_success_total",
    )
    assert re.findall(r"llmster_\w+", expr.text) == ["llmster_request_success_total"] * 2
    assert expr.metrics == (s.REQUESTS, s.REQUESTS)
    assert P.now(d.UP).metrics == (d.UP,)
    assert recorded("daemon:x_y:sum").selectors == ("daemon:x_y:sum",)
    assert coded(P, d.STATE, ("down", "stalled", "running")).selectors == (
        'llmster_daemon_state{state="down"}',
        'llmster_daemon_state{state="stalled"}',
        'llmster_daemon_state{state="running"}',
    )
    assert both(P.now(d.UP), P.now(s.STREAM_UP)).metrics == (d.UP, s.STREAM_UP)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_no_two_alerts_that_fire_look_alike_in_the_list(alert: Alert) -> None:
    told = {*OBJECT, "model", "instance_id"}  # both by `named`, the instance by `host` or with its daemon
    assert set(alert.expr.labels or ()) - {"instance", "job"} <= told
