"""Samples and the runner: only what is catalogued, nothing for missing data, one failure costs one collector."""

import logging

import pytest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.samples import Sample

from exporter.catalogue import Metric, self_metrics
from exporter.catalogue import daemon as m
from exporter.catalogue.metric import gauge
from exporter.collectors import COLLECTORS, DAEMON_COLLECTORS
from exporter.collectors.base import Collect, Samples, Scrape, run
from exporter.hardware.errors import HardwareError
from exporter.shared.labels import bounded
from tests.exporter.readings import scrape


def up(_: Scrape, out: Samples) -> None:
    out.add(m.UP, 1, daemon="d")


def breaks_in_the_middle(_: Scrape, out: Samples) -> None:
    out.add(m.RESTARTS, 1, daemon="d")
    raise ZeroDivisionError("a bug")


def names(samples: Samples) -> list[str]:
    return [sample.name for family in samples.collect() for sample in family.samples]


def test_missing_data_is_no_sample() -> None:
    samples = Samples()
    samples.add(m.UP, None, daemon="d")

    assert list(samples.collect()) == []


@pytest.mark.parametrize("labels", [{}, {"daemon": "d", "state": "x"}, {"deamon": "d"}])
def test_wrong_labels_are_refused(labels: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="llmster_up has labels"):
        Samples().add(m.UP, 1, **labels)


def test_a_metric_outside_the_catalogue_is_refused() -> None:
    with pytest.raises(KeyError, match="not in the catalogue"):
        Samples().add(gauge("llmster_up", "A twin.", "daemon", source="x"), 1, daemon="d")


def test_families_come_in_the_catalogues_order_whatever_order_they_were_filled_in() -> None:
    samples = Samples()
    samples.add(m.RESTARTS, 1, daemon="d")
    samples.add(m.UP, 1, daemon="d")

    assert [family.name for family in samples.collect()] == ["llmster_up", "llmster_restarts"]


@pytest.mark.parametrize("value", [True, False])
def test_a_truth_is_one_or_zero(value: bool) -> None:  # noqa: FBT001 - hypothesis or pytest fill it
    samples = Samples()
    samples.add(m.UP, value, daemon="d")

    [family] = samples.collect()
    assert repr(family.samples[0].value) == repr(float(value))


def test_samples_by_one_more_label_have_its_value_as_text_and_missing_ones_are_left_out() -> None:
    samples = Samples()
    samples.add_by(m.STATE, "state", {7: True, "x": None, "y" * 300: 0.5}, daemon="d")
    samples.add_by(m.LOADS, "model", {"x": None}, daemon="d")

    [family] = samples.collect()
    assert family.samples == [
        Sample(m.STATE.name, {"daemon": "d", "state": "7"}, 1.0),
        Sample(m.STATE.name, {"daemon": "d", "state": bounded("y" * 300)}, 0.5),
    ]


@pytest.mark.parametrize(
    ("label", "labels"), [("state", {}), ("stat", {"daemon": "d"}), ("daemon", {"daemon": "d"})]
)
def test_wrong_labels_beside_one_more_are_refused(label: str, labels: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="llmster_daemon_state has labels"):
        Samples().add_by(m.STATE, label, {"running": 1}, **labels)


def test_a_sample_is_what_prometheus_client_makes_of_the_same_name_labels_and_value() -> None:
    samples = Samples()
    samples.add(m.UP, 1, daemon="d")
    samples.add_all({m.RESTARTS: 2}, daemon="d")

    made = [sample for family in samples.collect() for sample in family.samples]
    assert made == [
        Sample("llmster_up", {"daemon": "d"}, 1.0),
        Sample("llmster_restarts_total", {"daemon": "d"}, 2.0),
    ]
    assert {type(sample) for sample in made} == {Sample}


def test_metrics_of_the_same_labels_are_added_together_and_missing_ones_left_out() -> None:
    samples = Samples()
    samples.add_all({m.UP: True, m.RESTARTS: None, m.SNAPSHOT_AGE: 0.5}, daemon="d")

    assert names(samples) == ["llmster_up", "llmster_snapshot_age_seconds"]


@pytest.mark.parametrize("values", [{m.STATE: 1}, {m.UP: 1, m.STATE: 1}])
def test_a_metric_of_other_labels_is_refused_among_others(values: dict[Metric, float]) -> None:
    with pytest.raises(ValueError, match="llmster_daemon_state has labels"):
        Samples().add_all(values, daemon="d")


def test_an_adopted_family_must_be_the_metric_s_own() -> None:
    with pytest.raises(ValueError, match="is not"):
        Samples().adopt(m.UP, Family("llmster_down", "Down.", "gauge"))


@pytest.mark.parametrize(
    ("error", "level"), [(ZeroDivisionError("a bug"), "ERROR"), (HardwareError("driver"), "DEBUG")]
)
def test_a_failing_collector_loses_its_own_samples_only_and_says_so(
    error: Exception, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "exporter.collectors.base")

    def breaks(_: Scrape, out: Samples) -> None:
        out.add(m.RESTARTS, 1, daemon="d")
        raise error

    collectors: list[tuple[str, Collect]] = [("bad", breaks), ("good", up)]
    samples = run(collectors, scrape())

    assert "llmster_restarts_total" not in names(samples)
    assert "llmster_up" in names(samples)
    success = {
        sample.labels["collector"]: sample.value
        for family in samples.collect()
        for sample in family.samples
        if sample.name == self_metrics.COLLECTOR_SUCCESS.name
    }
    assert success == {"bad": 0, "good": 1}
    assert names(samples).count(self_metrics.COLLECTOR_DURATION.name) == 2
    assert [record.levelname for record in caplog.records] == [level]


def test_every_collector_works_without_any_daemon() -> None:
    samples = run(COLLECTORS, scrape())

    success = [
        sample.value
        for family in samples.collect()
        for sample in family.samples
        if sample.name == self_metrics.COLLECTOR_SUCCESS.name
    ]
    assert success == [1] * len(COLLECTORS)


def test_collectors_have_names_of_their_own_and_probe_serves_a_part_of_them() -> None:
    assert len(dict(COLLECTORS)) == len(COLLECTORS)
    assert set(DAEMON_COLLECTORS) <= set(COLLECTORS)
    assert "health" not in dict(DAEMON_COLLECTORS)
