"""Cards and drivers that go away and come back, read through the genuine pynvml."""

import pynvml
import pytest

from exporter.hardware.errors import DriverUnavailable, NvmlNotFound
from exporter.hardware.nvml.source import RETRY_S
from tests.exporter.hardware.conftest import Clock, OpenSource
from tests.fake_nvml import Machine


def test_a_card_that_gets_lost_keeps_its_identity_and_nothing_else(
    machine: Machine, open_source: OpenSource
) -> None:
    machine.describe("count 3")
    source = open_source()
    before = source.read().devices[1]
    machine.add("gpu 1 everything error:15")
    first, lost, last = source.read().devices
    assert lost.lost
    assert (lost.index, lost.uuid, lost.name) == (1, before.uuid, before.name)
    assert lost.memory is None
    assert lost.processes is None
    assert first.memory is not None
    assert last.memory is not None


def test_a_card_lost_before_we_came_is_an_index(machine: Machine, open_source: OpenSource) -> None:
    machine.describe("count 2", "gpu 0 handle error:15")
    lost, other = open_source().read().devices
    assert lost.lost
    assert (lost.index, lost.uuid) == (0, None)
    assert not other.lost


def test_a_card_that_was_reset_comes_back_within_a_minute(
    machine: Machine, open_source: OpenSource, clock: Clock
) -> None:
    machine.describe("count 2", "gpu 0 handle error:15")
    source = open_source()
    assert source.read().devices[0].lost
    machine.describe("count 2")
    assert source.read().devices[0].lost  # NVML learns of a reset card only in a new session
    clock.now += RETRY_S
    source.read()
    assert not source.read().devices[0].lost


def test_a_reloaded_driver_is_read_again_in_the_same_reading(
    machine: Machine, open_source: OpenSource
) -> None:
    machine.describe("driver 580.1", "epoch 1")
    source = open_source()
    assert source.read().driver_version == "580.1"
    machine.describe("driver 610.2", "epoch 2", "count 2")
    reading = source.read()
    assert reading.driver_version == "610.2"
    assert len(reading.devices) == 2
    assert machine.calls("nvmlShutdown") == 1


def test_a_driver_that_goes_away_is_found_when_it_is_back(machine: Machine, open_source: OpenSource) -> None:
    machine.describe("epoch 1")
    source = open_source()
    source.read()
    machine.describe("epoch 2", "init 9")
    for _ in range(2):
        with pytest.raises(DriverUnavailable):
            source.read()
    machine.describe("epoch 2")
    assert len(source.read().devices) == 1


def test_a_driver_that_goes_away_while_a_session_is_opened_may_refuse_to_end_it(
    machine: Machine, open_source: OpenSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)

    machine.describe(f"gpu 0 handle error:{pynvml.NVML_ERROR_UNINITIALIZED}")
    monkeypatch.setattr(pynvml, "nvmlShutdown", refuse)
    source = open_source()
    with pytest.raises(DriverUnavailable, match="while starting"):
        source.read()
    machine.describe()
    assert len(source.read().devices) == 1


def test_a_library_that_could_not_be_initialised_is_let_go(machine: Machine, open_source: OpenSource) -> None:
    machine.describe("init 18")
    source = open_source()
    with pytest.raises(DriverUnavailable, match="initialised"):
        source.read()
    assert pynvml.nvmlLib is None
    machine.describe()
    assert len(source.read().devices) == 1


def test_a_missing_library_is_looked_for_once_a_minute(
    machine: Machine, open_source: OpenSource, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.describe()
    searches: list[str] = []

    def search(name: str) -> None:
        searches.append(name)
        raise OSError(f"{name}: cannot open shared object file")

    source = open_source()
    with monkeypatch.context() as without_library:
        without_library.setattr(pynvml, "CDLL", search)
        for _ in range(3):
            with pytest.raises(NvmlNotFound):
                source.read()
        assert len(searches) == 1
        clock.now += RETRY_S
        with pytest.raises(NvmlNotFound):
            source.read()
        assert len(searches) == 2
    clock.now += RETRY_S
    assert len(source.read().devices) == 1


def test_a_closed_source_leaves_no_session_behind(machine: Machine, open_source: OpenSource) -> None:
    machine.describe()
    source = open_source()
    source.read()
    source.close()
    source.close()
    assert machine.calls("nvmlInitWithFlags") == machine.calls("nvmlShutdown") == 1
