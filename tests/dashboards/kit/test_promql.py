"""The query builder writes what Prometheus understands, and refuses what would be empty or wrong."""

from collections.abc import Callable

import pytest

from dashboards.kit.promql import (
    Expr,
    QueryError,
    Selector,
    absent,
    avg_by,
    both,
    coded,
    count_by,
    either,
    least,
    max_by,
    min_by,
    most,
    now,
    recorded,
    share,
    share_of_some,
    sum_by,
    unless,
    variable,
)
from dashboards.kit.targets import ApiQuery, Query
from dashboards.rules.recording import Recording
from exporter.catalogue import daemon as d
from exporter.catalogue import hardware as h
from exporter.catalogue import log_stream as s

B = Selector({"daemon": "$daemon", "instance": "$host"})

P = Selector(window="5m")

WRITTEN: dict[str, tuple[Callable[[], Expr], str]] = {
    "a gauge, filtered by the board's variables": (
        lambda: B.now(d.UP),
        'llmster_up{daemon=~"$daemon"}',
    ),
    "a host's metric, filtered by host": (
        lambda: B.now(h.POWER),
        'gpu_power_watts{instance=~"$host"}',
    ),
    "a matcher of one's own beside the filters": (
        lambda: B.now(d.STATE, state="!=down"),
        'llmster_daemon_state{daemon=~"$daemon",state!="down"}',
    ),
    "a matcher of one's own instead of a filter": (
        lambda: B.now(d.UP, daemon="box"),
        'llmster_up{daemon="box"}',
    ),
    "a rate over the board's interval": (
        lambda: sum_by(B.rate(s.REQUESTS), "model"),
        'sum by (model) (rate(llmster_request_success_total{daemon=~"$daemon"}[$__rate_interval]))',
    ),
    "a quantile": (
        lambda: P.quantile(0.95, s.TTFT, "model"),
        "histogram_quantile(0.95, sum by (model, le) (rate(llmster_time_to_first_token_seconds_bucket[5m])))",
    ),
    "a heatmap's buckets": (
        lambda: P.heat(s.TTFT),
        "sum by (le) (increase(llmster_time_to_first_token_seconds_bucket[5m]))",
    ),
    "a share above a bound": (
        lambda: P.slower(s.TTFT, 2.5),
        (
            '1 - sum(rate(llmster_time_to_first_token_seconds_bucket{le="2.5"}[5m])) '
            "/ sum(rate(llmster_time_to_first_token_seconds_count[5m]))"
        ),
    ),
    "parentheses where the right side needs them": (
        lambda: sum_by(P.now(h.POWER)) - (sum_by(P.now(h.POWER)) - sum_by(P.now(h.POWER))),
        "sum(gpu_power_watts) - (sum(gpu_power_watts) - sum(gpu_power_watts))",
    ),
    "no parentheses where precedence is enough": (
        lambda: sum_by(P.now(h.POWER)) / 1000 * variable("kwh") + sum_by(P.now(h.POWER)),
        "sum(gpu_power_watts) / 1000 * $kwh + sum(gpu_power_watts)",
    ),
    "a condition": (
        lambda: both(P.now(d.UP).equals(0), P.now(s.STREAM_UP) > 0),
        "llmster_up == 0 and llmster_log_stream_up > 0",
    ),
    "a condition on some labels": (
        lambda: unless(P.now(d.PARALLEL) > 1, P.now(d.UP).equals(0), "daemon"),
        "llmster_instance_parallel > 1 unless on (daemon) llmster_up == 0",
    ),
    "a share that is 0 where nothing failed": (
        lambda: share_of_some(
            sum_by(P.rate(s.REQUESTS, finished_reason="error")), sum_by(P.rate(s.REQUESTS))
        ),
        (
            '(sum(rate(llmster_request_success_total{finished_reason="error"}[5m])) '
            "or sum(rate(llmster_request_success_total[5m])) * 0) / sum(rate(llmster_request_success_total[5m]))"
        ),
    ),
    "a state as a number": (
        lambda: coded(P, d.STATE, ("down", "stalled", "running"), "daemon"),
        (
            'max by (daemon) (1 * llmster_daemon_state{state="down"} '
            'or 2 * llmster_daemon_state{state="stalled"} or 3 * llmster_daemon_state{state="running"})'
        ),
    ),
    "a counter that grew or was born": (
        lambda: P.newly(h.XID_ERRORS, "10m"),
        (
            "increase(gpu_xid_errors_total[10m]) > 0 "
            "or (gpu_xid_errors_total unless gpu_xid_errors_total offset 10m) > 0"
        ),
    ),
    "absence": (lambda: absent(P.now(d.UP)), "absent(llmster_up)"),
    "the other aggregations": (
        lambda: max_by(P.now(h.POWER), "gpu") - min_by(P.now(h.POWER), "gpu") + avg_by(P.now(h.POWER), "gpu"),
        "max by (gpu) (gpu_power_watts) - min by (gpu) (gpu_power_watts) + avg by (gpu) (gpu_power_watts)",
    ),
    "a quantile in a window of its own": (
        lambda: P.quantile(0.5, s.TTFT, window="1h") / 2,
        "histogram_quantile(0.5, sum by (le) (rate(llmster_time_to_first_token_seconds_bucket[1h]))) / 2",
    ),
    "a share above a bound by label in a window of its own": (
        lambda: P.slower(s.TTFT, 2.5, "model", window="1h"),
        (
            '1 - sum by (model) (rate(llmster_time_to_first_token_seconds_bucket{le="2.5"}[1h])) '
            "/ sum by (model) (rate(llmster_time_to_first_token_seconds_count[1h]))"
        ),
    ),
    "a histogram's sum in a window of its own": (
        lambda: Selector(window="1h").rate_of_sum(s.TTFT),
        "rate(llmster_time_to_first_token_seconds_sum[1h])",
    ),
    "a number of series": (lambda: count_by(P.now(h.POWER), "gpu"), "count by (gpu) (gpu_power_watts)"),
    "a number less something, divided": (lambda: (1 - P.now(h.POWER)) / 2, "(1 - gpu_power_watts) / 2"),
    "a fallback on a condition": (
        lambda: either(P.now(d.UP), both(P.now(d.UP), P.now(s.STREAM_UP))),
        "llmster_up or llmster_up and llmster_log_stream_up",
    ),
    "a comparison with a sum": (
        lambda: P.now(h.POWER) > P.now(h.POWER) + 1,
        "gpu_power_watts > gpu_power_watts + 1",
    ),
    "a condition on two labels": (
        lambda: both(P.now(h.POWER), P.now(h.POWER), "gpu", "instance"),
        "gpu_power_watts and on (gpu, instance) gpu_power_watts",
    ),
    "a counter of some that grew": (
        lambda: P.newly(h.XID_ERRORS, "10m", gpu="0"),
        (
            'increase(gpu_xid_errors_total{gpu="0"}[10m]) > 0 or (gpu_xid_errors_total{gpu="0"} '
            'unless gpu_xid_errors_total{gpu="0"} offset 10m) > 0'
        ),
    ),
    "a window of its own": (
        lambda: P.increase(d.RESTARTS, "1h30m"),
        "increase(llmster_restarts_total[1h30m])",
    ),
    "a gauge over time": (
        lambda: P.over("max_over_time", h.POWER, "1d"),
        "max_over_time(gpu_power_watts[1d])",
    ),
    "a histogram's sum": (
        lambda: P.rate_of_sum(s.TTFT),
        "rate(llmster_time_to_first_token_seconds_sum[5m])",
    ),
    "the numbers as PromQL writes them": (
        lambda: (P.now(h.POWER) * 0.5 + 1e6) / 1000.0 > -2,
        "(gpu_power_watts * 0.5 + 1000000) / 1000 > -2",
    ),
    "parentheses where a product is divided by": (
        lambda: P.now(h.POWER) / (P.now(h.POWER) * 2),
        "gpu_power_watts / (gpu_power_watts * 2)",
    ),
    "a number less a sum": (lambda: 1.5 - (P.now(h.POWER) - 2), "1.5 - (gpu_power_watts - 2)"),
    "a comparison of a comparison": (lambda: (P.now(h.POWER) > 1) < 5, "gpu_power_watts > 1 < 5"),
    "a condition on a condition": (
        lambda: both(both(P.now(d.UP), P.now(d.UP) > 0), unless(P.now(d.UP), P.now(s.STREAM_UP))),
        "llmster_up and llmster_up > 0 and (llmster_up unless llmster_log_stream_up)",
    ),
    "a fallback for a condition": (
        lambda: either(unless(P.now(d.UP), P.now(s.STREAM_UP)), either(P.now(d.UP) > 0, P.now(d.UP))) * 2,
        "(llmster_up unless llmster_log_stream_up or (llmster_up > 0 or llmster_up)) * 2",
    ),
    "a condition in a difference": (
        lambda: both(P.now(d.UP), P.now(s.STREAM_UP)) - both(P.now(d.UP), P.now(s.STREAM_UP)),
        "(llmster_up and llmster_log_stream_up) - (llmster_up and llmster_log_stream_up)",
    ),
    "a state as a number in a quotient": (
        lambda: coded(P, d.STATE, ("down", "running"), "daemon") / 2,
        (
            'max by (daemon) (1 * llmster_daemon_state{state="down"} '
            'or 2 * llmster_daemon_state{state="running"}) / 2'
        ),
    ),
    "a counter that grew, counted": (
        lambda: sum_by(P.newly(d.RESTARTS, "10m")) * 2,
        (
            "sum(increase(llmster_restarts_total[10m]) > 0 "
            "or (llmster_restarts_total unless llmster_restarts_total offset 10m) > 0) * 2"
        ),
    ),
    "every kind of matcher": (
        lambda: P.now(d.STATE, state="=~a|b", daemon="!~x"),
        'llmster_daemon_state{state=~"a|b",daemon!~"x"}',
    ),
    "the host of a metric without filters": (
        lambda: P.now(h.POWER, instance="box"),
        'gpu_power_watts{instance="box"}',
    ),
    "a recording rule's series": (
        lambda: recorded("daemon:x_y:rate5m", "daemon") * 2,
        "daemon:x_y:rate5m * 2",
    ),
    "the time less a time": (lambda: now() - 5, "time() - 5"),
    "whether a value is above or below a number": (
        lambda: (P.now(h.POWER) + 1).above(2.5) + (P.now(h.POWER) > 3).below(1),
        "(gpu_power_watts + 1 > bool 2.5) + ((gpu_power_watts > 3) < bool 1)",
    ),
    "a number of what is above another": (
        lambda: sum_by(P.now(h.POWER).above(2), "gpu"),
        "sum by (gpu) (gpu_power_watts > bool 2)",
    ),
    "a gauge's series that are new": (
        lambda: either(P.appeared(d.UP, "10m", daemon="x"), P.now(d.UP)) * 2,
        '(llmster_up{daemon="x"} unless llmster_up{daemon="x"} offset 10m or llmster_up) * 2',
    ),
    "a mean over the board's range": (
        lambda: B.whole(h.POWER, gpu="0") / 2,
        'avg_over_time(gpu_power_watts{instance=~"$host",gpu="0"}[$__range] @ end()) / 2',
    ),
    "a histogram's count": (
        lambda: B.rate_of_count(s.TTFT, model="m"),
        ('rate(llmster_time_to_first_token_seconds_count{daemon=~"$daemon",model="m"}[$__rate_interval])'),
    ),
    "a share above a bound of the board's": (
        lambda: P.above_bound(s.TTFT, "$slo", "model", window="1h"),
        (
            '1 - sum by (model) (rate(llmster_time_to_first_token_seconds_bucket{le="$slo"}[1h])) '
            "/ sum by (model) (rate(llmster_time_to_first_token_seconds_count[1h]))"
        ),
    ),
    "the series with the smallest and the largest values": (
        lambda: either(least(3, P.now(d.UP)), most(2, P.now(d.UP))),
        "bottomk(3, llmster_up) or topk(2, llmster_up)",
    ),
    "a counter that grew, beside another": (
        lambda: either(P.newly(d.RESTARTS, "10m"), P.newly(d.RESTARTS, "5m")),
        (
            "increase(llmster_restarts_total[10m]) > 0 or (llmster_restarts_total unless "
            "llmster_restarts_total offset 10m) > 0 or (increase(llmster_restarts_total[5m]) > 0 or "
            "(llmster_restarts_total unless llmster_restarts_total offset 5m) > 0)"
        ),
    ),
    "an absence counted": (lambda: absent(P.now(d.UP)) * 2, "absent(llmster_up) * 2"),
}


@pytest.mark.parametrize("what", WRITTEN)
def test_it_writes(what: str) -> None:
    write, text = WRITTEN[what]
    assert write().text == text


@pytest.mark.parametrize(
    ("write", "unit", "labels", "series"),
    [
        (lambda: P.now(h.POWER), "watts", {"gpu", "instance", "job"}, {"gpu_power_watts"}),
        (lambda: P.now(h.POWER).above(2), "", {"gpu", "instance", "job"}, {"gpu_power_watts"}),
        (lambda: P.now(h.POWER).below(2), "", {"gpu", "instance", "job"}, {"gpu_power_watts"}),
        (lambda: P.now(h.POWER) * 2, "", {"gpu", "instance", "job"}, {"gpu_power_watts"}),
        (lambda: P.now(h.POWER) + 2, "watts", {"gpu", "instance", "job"}, {"gpu_power_watts"}),
        (lambda: P.whole(h.POWER), "watts", {"gpu", "instance", "job"}, {"gpu_power_watts"}),
        (lambda: P.over("deriv", h.POWER, "5m"), "watts/s", {"gpu", "instance", "job"}, {"gpu_power_watts"}),
        (lambda: P.over("delta", h.POWER, "5m"), "watts", {"gpu", "instance", "job"}, {"gpu_power_watts"}),
        (lambda: P.quantile(0.5, s.TTFT, "model"), "seconds", {"model"}, {f"{s.TTFT.name}_bucket"}),
        (
            lambda: sum_by(P.rate_of_count(s.TTFT), "model"),
            "/s",
            {"model"},
            {f"{s.TTFT.name}_count"},
        ),
        (
            lambda: P.slower(s.TTFT, 2.5),
            "ratio",
            set(),
            {f'{s.TTFT.name}_bucket{{le="2.5"}}', f"{s.TTFT.name}_count"},
        ),
        (
            lambda: P.above_bound(s.TTFT, "$slo"),
            "ratio",
            set(),
            {f'{s.TTFT.name}_bucket{{le="$slo"}}', f"{s.TTFT.name}_count"},
        ),
        (lambda: absent(P.now(h.POWER)), "", set(), {"gpu_power_watts"}),
        (lambda: count_by(P.now(h.POWER), "gpu"), "", {"gpu"}, {"gpu_power_watts"}),
    ],
)
def test_what_is_known_of_a_result_follows_its_arithmetic(
    write: Callable[[], Expr], unit: str, labels: set[str], series: set[str]
) -> None:
    made = write()
    assert (made.unit, set(made.labels or ()), set(made.selectors)) == (unit, labels, series)


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
    "a condition on a label that is not there": (
        lambda: both(P.now(d.UP), P.now(d.UP), "gpu"),
        r"llmster_up has no label gpu, only \['daemon', 'instance', 'job'\]",
    ),
    "a condition on a label that only the first has": (
        lambda: unless(P.now(h.POWER), P.now(d.UP), "gpu"),
        "llmster_up has no label gpu",
    ),
    "a condition with other labels": (
        lambda: unless(P.now(d.UP), sum_by(P.now(d.UP))),
        r"llmster_up unless sum\(llmster_up\): labels .* never match \[\]; aggregate both to the same",
    ),
    "a label of a number": (lambda: sum_by(now(), "daemon"), r"time\(\) has no label daemon, only \[\]"),
    "a quantile of 0": (lambda: P.quantile(0, s.TTFT), "lies between 0 and 1, not at 0"),
    "a quantile of 1": (lambda: P.quantile(1, s.TTFT), "lies between 0 and 1, not at 1"),
    "the mean of a counter": (
        lambda: P.whole(d.RESTARTS),
        "is a counter: the mean of a counter says nothing",
    ),
    "the sum of a counter": (lambda: P.rate_of_sum(d.RESTARTS), "is a counter: only histograms have buckets"),
    "a counter over time": (lambda: P.over("delta", d.RESTARTS, "5m"), r"delta\(\) is for gauges"),
    "a bucket's label of a sum": (lambda: P.rate_of_sum(s.TTFT, le="1"), "not le"),
    "a window with a space before": (lambda: P.rate(d.RESTARTS, " 5m"), "write 5m, "),
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


@pytest.mark.parametrize("function", ["avg_over_time", "min_over_time", "last_over_time", "delta", "deriv"])
def test_it_writes_every_function_over_time(function: str) -> None:
    assert P.over(function, h.POWER, "1h").text == f"{function}(gpu_power_watts[1h])"


@pytest.mark.parametrize("what", REFUSED)
def test_it_refuses(what: str) -> None:
    write, complaint = REFUSED[what]
    with pytest.raises(QueryError, match=complaint):
        write()
