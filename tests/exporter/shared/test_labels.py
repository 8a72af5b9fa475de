"""Label values from outside: short ones as they are, long ones cut, and never two alike that were different."""

from hypothesis import given
from hypothesis import strategies as st

from exporter.catalogue import daemon as m
from exporter.collectors.base import Samples
from exporter.shared.labels import MAX_CHARS, bounded


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
