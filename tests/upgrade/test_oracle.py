"""What vanishes with a field of the daemon's answers is known beforehand, from what the catalogue says metrics need."""

import asyncio
import functools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest

from daemonpulse import upgrade
from exporter.catalogue import CATALOGUE, Metric
from tests.upgrade import observed
from tests.upgrade.fields import CHANGES, fields_of

RECORDED = observed.recorded()
FIELDS = fields_of(RECORDED)
OF_METRICS = [(call, path) for call, path in FIELDS if call in (*observed.CALLS, *observed.EVENTS)]
"""Of what the exporter reads; the others are read by actions."""

NO_VALUE = ("getLoadConfig", "fields.value")
"""A key without a value stands at its default; a value of another type is unknown. So two changes differ here."""

NOT_SHOWN = {
    "llmster_instance_gpu_offload_ratio": "every recorded load was fitted by the daemon",
    "llmster_context_utilization_ratio": "a recorded log stream comes without a list of instances",
}
"""Metrics that the recorded answers do not make the exporter show, though they need fields."""


@functools.cache
def shown_as_recorded() -> frozenset[str]:
    """What is shown of the answers as recorded."""
    with ThreadPoolExecutor(1) as elsewhere:  # a test's own loop may run here
        return frozenset(elsewhere.submit(asyncio.run, observed.shown(RECORDED)).result())


def named(rows: Iterable[Metric]) -> set[str]:
    """Name the metrics that the recorded answers show."""
    return {row.name for row in rows} & shown_as_recorded()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("call", "path"), OF_METRICS)
async def test_a_changed_field_costs_what_the_catalogue_says(call: str, path: str, change: str) -> None:
    altered = observed.without(RECORDED, call, path, CHANGES[change])
    lost = shown_as_recorded() - await observed.shown(altered)
    expected = named(upgrade.vanishing([f"{call}:{path}"]))
    if (call, path) == NO_VALUE and change == "retyped":
        expected |= {"llmster_instance_parallel"}
    assert lost == expected


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("call", "path"), FIELDS)
def test_a_changed_field_is_found_in_recorded_frames(call: str, path: str, change: str) -> None:
    altered = observed.without(RECORDED, call, path, CHANGES[change])
    missing = upgrade.missing(altered)
    found, impaired = named(upgrade.vanishing(missing)), upgrade.impaired(missing)
    if (call, path) == NO_VALUE and change == "retyped":
        assert (found, impaired) == (set(), {})  # any type can be a value
    else:
        assert found == named(upgrade.vanishing([f"{call}:{path}"]))
        assert impaired == upgrade.impaired([f"{call}:{path}"])


def test_the_recorded_frames_lack_nothing() -> None:
    assert upgrade.missing(RECORDED) == ()


def test_every_needed_field_is_recorded_and_its_metrics_are_shown() -> None:
    needed = {need for row in CATALOGUE for need in row.needs}
    assert needed <= {f"{call}:{path}" for call, path in FIELDS}
    assert {row.name for row in CATALOGUE if row.needs} - shown_as_recorded() == NOT_SHOWN.keys()


def test_a_call_that_was_not_recorded_tells_nothing() -> None:
    assert upgrade.missing({"listLoaded": [], "listEngines": [[]]}) == ()
