import logging
from collections.abc import Iterable
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.resources import Resource
from prometheus_client.metrics_core import Metric as Family

from exporter.catalogue import hardware
from exporter.collectors.base import Samples
from exporter.telemetry import otel_env
from exporter.telemetry.metric_data import points_of
from exporter.telemetry.metric_push import MetricPush, from_environment, resource


class Receiver(MetricExporter):
    """Takes pushes and answers as it is told."""

    def __init__(self, *answers: MetricExportResult | Exception) -> None:
        super().__init__()
        self.taken: list[MetricsData] = []
        self._answers = list(answers)

    def export(
        self,
        metrics_data: MetricsData,
        timeout_millis: float = 10_000,  # noqa: ARG002
        **_: Any,
    ) -> MetricExportResult:
        self.taken.append(metrics_data)
        answer = self._answers.pop(0) if self._answers else MetricExportResult.SUCCESS
        if isinstance(answer, Exception):
            raise answer
        return answer

    def force_flush(self, timeout_millis: float = 10_000) -> bool:  # noqa: ARG002
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Nothing to end."""


async def collect() -> Iterable[Family]:
    samples = Samples()
    samples.add(hardware.TEMPERATURE, 71, gpu="0", sensor="gpu")
    return samples.collect()


def push_to(receiver: Receiver, **settings: Any) -> MetricPush:
    return MetricPush(collect, receiver, Resource({}), version="1", wall_clock=lambda: 1.0, **settings)


async def test_a_push_is_counted_by_its_points() -> None:
    receiver = Receiver()
    push = push_to(receiver)
    await push.push()
    assert (push.counts.exported, push.counts.failed) == (1, 0)
    assert points_of(receiver.taken[0]) == 1


async def test_points_the_receiver_rejects_are_failed_ones() -> None:
    push = push_to(Receiver(), rejected=lambda: 1)
    await push.push()
    assert (push.counts.exported, push.counts.failed) == (0, 1)


async def test_a_receiver_that_fails_costs_its_points_and_one_log_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    push = push_to(
        Receiver(MetricExportResult.FAILURE, RuntimeError("secret address"), MetricExportResult.SUCCESS)
    )
    for _ in range(3):
        await push.push()
    assert (push.counts.exported, push.counts.failed) == (1, 2)
    assert [record.message for record in caplog.records] == [
        "OTLP export failed, retrying",
        "OTLP export recovered",
    ]
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318", "OTEL_METRICS_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://x:4318/v1/metrics"}, True),
        (
            {
                "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://x:4318/v1/metrics",
                "OTEL_METRICS_EXPORTER": "none",
            },
            False,
        ),
        (
            {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://x:4318/v1/metrics", "OTEL_SDK_DISABLED": "true"},
            False,
        ),
    ],
)
def test_metrics_are_pushed_when_asked_for(environ: dict[str, str], *, wanted: bool) -> None:
    assert otel_env.metrics_wanted(environ)[0] is wanted
    assert (from_environment(collect, environ=environ) is not None) is wanted


def test_a_host_is_named_by_its_name_and_by_what_the_environment_says_instead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "box-7")
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "site=berlin")
    made = resource("daemonpulse-exporter").attributes
    assert (made["service.instance.id"], made["host.name"], made["site"]) == ("box-7", "box-7", "berlin")
    assert made["service.name"] == "daemonpulse-exporter"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=gpu-1")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "pulse")
    made = resource("daemonpulse-exporter").attributes
    assert (made["service.instance.id"], made["service.name"]) == ("gpu-1", "pulse")
