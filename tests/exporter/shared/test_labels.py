"""Label values from outside: short ones as they are, long ones cut, and never two alike that were different."""

from hypothesis import given
from hypothesis import strategies as st

from exporter.catalogue import daemon as m
from exporter.collectors.base import Samples
from exporter.collectors.client_metrics import ClientMetrics
from exporter.collectors.energy_metrics import EnergyMetrics
from exporter.shared.labels import MAX_CHARS, OTHER, FirstFew, bounded


@given(st.text(min_size=0, max_size=MAX_CHARS))
def test_a_short_value_stays_as_it_is(value: str) -> None:
    assert bounded(value) == value


def test_long_values_are_cut_and_stay_different() -> None:
    values = [bounded("x" * 100_000 + end) for end in ("a", "b", "\ud83d")]
    assert len(set(values)) == 3
    assert {len(value) for value in values} == {MAX_CHARS}
    assert all(value.startswith("x" * 100) for value in values)


def test_no_sample_carries_a_long_label() -> None:
    out = Samples()
    long = "x" * 100_000
    out.add(m.LOADS, 1, daemon="d", model=long)
    out.add_all({m.TTL: 1.0, m.PINNED: 1.0}, daemon="d", model=long, instance_id=long)
    labels = [sample.labels for family in out.collect() for sample in family.samples]
    assert len(labels) == 3
    assert {len(value) for one in labels for value in one.values()} == {1, MAX_CHARS}


def test_counts_that_outlive_a_scrape_carry_no_long_label_either() -> None:
    long = "x" * 100_000
    energy, clients = EnergyMetrics(), ClientMetrics("d")
    energy.count("d", long, long, 1.0)
    clients.estimate_error(long, 0.5)
    families = [family for _, family in (*energy.collect(), *clients.collect())]
    longest = max(
        len(value) for one in families for sample in one.samples for value in sample.labels.values()
    )
    assert longest == MAX_CHARS


def test_values_beyond_the_first_few_are_other() -> None:
    tools = FirstFew(2)
    assert [tools.name(tool) for tool in ("a", "b", "a", "c", "b")] == ["a", "b", "a", OTHER, "b"]
