"""The query builder writes what Prometheus understands, and refuses what would be empty or wrong."""

import re
from collections.abc import Callable

import pytest

from dashboards.promql import (
    QueryError,
    Scope,
    absent,
    both,
    coded,
    count_by,
    either,
    join,
    recorded,
    share,
    share_of_some,
    sum_by,
    unless,
    variable,
)
from dashboards.rules import Recording
from dashboards.targets import ApiQuery, Query
from exporter.catalogue import daemon as d
from exporter.catalogue import hardware as h
from exporter.catalogue import stream as s

B = Scope({"daemon": "$daemon", "instance": "$host"})
P = Scope(window="5m")

WRITTEN = {
    "a gauge, filtered by the board's variables": (
        B.now(d.UP),
        'llmster_up{daemon=~"$daemon"}',
    ),
    "a machine's metric, filtered by machine": (B.now(h.POWER), 'nvml_power_watts{instance=~"$host"}'),
    "a matcher of one's own beside the filters": (
        B.now(d.STATE, state="!=down"),
        'llmster_daemon_state{daemon=~"$daemon",state!="down"}',
    ),
    "a matcher of one's own instead of a filter": (B.now(d.UP, daemon="box"), 'llmster_up{daemon="box"}'),
    "a rate over the board's interval": (
        sum_by(B.rate(s.REQUESTS), "model"),
        'sum by (model) (rate(llmster_request_success_total{daemon=~"$daemon"}[$__rate_interval]))',
    ),
    "a quantile": (
        P.quantile(0.95, s.TTFT, "model"),
        "histogram_quantile(0.95, sum by (model, le) (rate(llmster_time_to_first_token_seconds_bucket[5m])))",
    ),
    "a mean": (
        P.mean(s.TTFT),
        (
            "sum(rate(llmster_time_to_first_token_seconds_sum[5m])) "
            "/ sum(rate(llmster_time_to_first_token_seconds_count[5m]))"
        ),
    ),
    "a heatmap's buckets": (
        P.heat(s.TTFT),
        "sum by (le) (increase(llmster_time_to_first_token_seconds_bucket[5m]))",
    ),
    "a share above a bound": (
        P.slower(s.TTFT, 2.5),
        (
            '1 - sum(rate(llmster_time_to_first_token_seconds_bucket{le="2.5"}[5m])) '
            "/ sum(rate(llmster_time_to_first_token_seconds_count[5m]))"
        ),
    ),
    "parentheses where the right side needs them": (
        sum_by(P.now(h.POWER)) - (sum_by(P.now(h.POWER)) - sum_by(P.now(h.POWER))),
        "sum(nvml_power_watts) - (sum(nvml_power_watts) - sum(nvml_power_watts))",
    ),
    "no parentheses where precedence is enough": (
        sum_by(P.now(h.POWER)) / 1000 * variable("kwh") + sum_by(P.now(h.POWER)),
        "sum(nvml_power_watts) / 1000 * $kwh + sum(nvml_power_watts)",
    ),
    "a condition": (
        both(P.now(d.UP).equals(0), P.now(s.STREAM_UP) > 0),
        "llmster_up == 0 and llmster_log_stream_up > 0",
    ),
    "a condition on some labels": (
        unless(P.now(d.PARALLEL) > 1, P.now(d.UP).equals(0), "daemon"),
        "llmster_instance_parallel > 1 unless on (daemon) llmster_up == 0",
    ),
    "a share that is 0 where nothing failed": (
        share_of_some(sum_by(P.rate(s.REQUESTS, finished_reason="error")), sum_by(P.rate(s.REQUESTS))),
        (
            '(sum(rate(llmster_request_success_total{finished_reason="error"}[5m])) '
            "or sum(rate(llmster_request_success_total[5m])) * 0) / sum(rate(llmster_request_success_total[5m]))"
        ),
    ),
    "labels of an info metric": (
        join(P.now(h.POWER), P.now(h.DEVICE_INFO), "instance", "gpu", take=["name"]),
        "nvml_power_watts * on (instance, gpu) group_left (name) max by (instance, gpu, name) (nvml_device_info)",
    ),
    "a state as a number": (
        coded(P, d.STATE, ("down", "stalled", "running"), "daemon"),
        (
            'sum by (daemon) (llmster_daemon_state{state="stalled"}) '
            '+ 2 * sum by (daemon) (llmster_daemon_state{state="running"})'
        ),
    ),
    "a counter that grew or was born": (
        P.newly(h.XID_ERRORS, "10m"),
        (
            "increase(nvml_xid_errors_total[10m]) > 0 "
            "or (nvml_xid_errors_total unless nvml_xid_errors_total offset 10m) > 0"
        ),
    ),
    "absence": (absent(P.now(d.UP)), "absent(llmster_up)"),
}


@pytest.mark.parametrize("what", WRITTEN)
def test_it_writes(what: str) -> None:
    expr, text = WRITTEN[what]
    assert expr.text == text


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "a counter as it is": (lambda: P.now(d.RESTARTS), "is a counter: a counter is read by rate"),
    "the rate of a gauge": (lambda: P.rate(d.UP), "is a gauge: only counters have a rate"),
    "the rate of a histogram": (lambda: P.rate(s.TTFT), "is a histogram"),
    "the increase of a gauge": (lambda: P.increase(d.UP), "only counters increase"),
    "the quantile of a gauge": (lambda: P.quantile(0.5, d.UP), "only histograms have buckets"),
    "a quantile of 95": (lambda: P.quantile(95, s.TTFT), "between 0 and 1"),
    "a bound that is no bucket": (lambda: P.slower(s.TTFT, 3.3), "no fractional bucket"),
    "a whole bound, written differently by formats": (lambda: P.slower(s.TTFT, 5.0), "no fractional bucket"),
    "a label the metric does not have": (
        lambda: P.now(d.UP, model="x"),
        r"has labels \('daemon',\), not model",
    ),
    "grouping by a label that is not there": (lambda: sum_by(P.now(d.UP), "gpu"), "has no label gpu"),
    "grouping by a label that is gone": (
        lambda: sum_by(sum_by(P.now(h.POWER), "gpu"), "instance"),
        "has no label instance",
    ),
    "a quantile by a label that is not there": (lambda: P.quantile(0.5, s.TTFT, "gpu"), "has no label gpu"),
    "a share of things that never match": (
        lambda: share(sum_by(P.now(h.POWER), "gpu"), P.now(h.POWER)),
        "never match",
    ),
    "a fallback with other labels": (lambda: either(P.now(d.UP), sum_by(P.now(d.UP))), "never match"),
    "a join over a label that is not there": (
        lambda: join(P.now(h.POWER), P.now(d.UP), "daemon"),
        "has no label daemon",
    ),
    "a window that is none": (lambda: P.rate(d.RESTARTS, "5 minutes"), "is no window"),
    "a window of nothing": (lambda: P.rate(d.RESTARTS, "0s"), "is no window"),
    "a window with its units the wrong way round": (lambda: P.rate(d.RESTARTS, "30m1h"), "is no window"),
    "a value that would end its string": (lambda: P.now(d.UP, daemon='a"b'), "would end the string"),
    "a value that would begin an escape": (lambda: P.now(d.UP, daemon=r"=~a\.b"), "would end the string"),
    "a function that is not for gauges": (lambda: P.over("rate", d.UP, "5m"), "choose one of"),
    "a recording rule's name without level": (lambda: recorded("requests:rate5m"), "level:metric:operations"),
    "a recording rule with other labels than it says": (
        lambda: Recording("daemon:x_y:sum", sum_by(P.now(h.POWER), "gpu"), ("daemon",)),
        "not",
    ),
    "a legend with a label that is gone": (
        lambda: Query(sum_by(P.now(h.POWER), "gpu"), "{{instance}}"),
        "has no label instance",
    ),
    "a plain number as a query": (lambda: Query(variable("kwh")), "is a number"),
    "a list the actions API does not have": (lambda: ApiQuery("secrets"), "has operations"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_refuses(what: str) -> None:
    write, complaint = REFUSED[what]
    with pytest.raises(QueryError, match=complaint):
        write()


def test_units_follow_the_numbers() -> None:
    assert P.now(h.POWER).unit == "watts"
    assert P.rate(s.GENERATION_TOKENS).unit == "tokens/s"
    assert P.increase(s.GENERATION_TOKENS).unit == "tokens"
    assert P.over("deriv", h.PROCESS_RESIDENT, "1h").unit == "bytes/s"
    assert share(sum_by(P.now(h.POWER)), sum_by(P.now(h.POWER_LIMIT))).unit == "ratio"
    assert count_by(P.now(h.POWER)).unit == ""


def test_every_series_a_query_reads_is_known() -> None:
    expr = share(sum_by(P.rate(s.REQUESTS, finished_reason="stop")), sum_by(P.rate(s.REQUESTS)))
    assert expr.selectors == (
        'llmster_request_success_total{finished_reason="stop"}',
        "llmster_request_success_total",
    )
    assert re.findall(r"llmster_\w+", expr.text) == ["llmster_request_success_total"] * 2
