"""GPUs and drivers that go away and come back, read through the genuine pynvml."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pynvml
import pytest

from exporter.hardware.errors import DriverUnavailable, HardwareError, NvmlNotFound
from exporter.hardware.nvml.shared import SharedSource
from exporter.hardware.nvml.source import RETRY_S, NvmlSource
from exporter.hardware.nvml.xid_events import XidWatcher
from tests import fake_nvml
from tests.exporter.hardware.conftest import Clock, OpenSource
from tests.fake_nvml import FakeHost


def test_a_gpu_that_gets_lost_keeps_its_identity_and_nothing_else(
    host: FakeHost, open_source: OpenSource
) -> None:
    host.describe("count 3")
    source = open_source()
    before = source.read().devices[1]
    host.add("gpu 1 everything error:15")
    first, lost, last = source.read().devices
    assert lost.lost
    assert (lost.index, lost.uuid, lost.name) == (1, before.uuid, before.name)
    assert lost.memory is None
    assert lost.processes is None
    assert first.memory is not None
    assert last.memory is not None


def test_a_gpu_lost_before_we_came_is_an_index(host: FakeHost, open_source: OpenSource) -> None:
    host.describe("count 2", "gpu 0 handle error:15")
    lost, other = open_source().read().devices
    assert lost.lost
    assert (lost.index, lost.uuid) == (0, None)
    assert not other.lost


@pytest.mark.parametrize("code", [999, 15, 16, 2, 28])
def test_a_gpu_that_answers_nothing_any_more_is_lost_before_and_after_a_restart(
    host: FakeHost, open_source: OpenSource, code: int
) -> None:
    host.describe("count 2")
    source = open_source()
    source.read()
    host.add(f"gpu 0 everything error:{code}")
    assert [device.lost for device in source.read().devices] == [True, False]
    assert [device.lost for device in open_source().read().devices] == [True, False]


@pytest.mark.parametrize("code", [999, 15, 2, 28])
def test_a_counted_gpu_that_does_not_open_is_lost(host: FakeHost, open_source: OpenSource, code: int) -> None:
    host.describe("count 3", f"gpu 1 handle error:{code}")
    devices = open_source().read().devices
    assert [(device.index, device.lost) for device in devices] == [(0, False), (1, True), (2, False)]


def test_a_gpu_that_was_reset_comes_back_within_a_minute(
    host: FakeHost, open_source: OpenSource, clock: Clock
) -> None:
    host.describe("count 2", "gpu 0 handle error:15")
    source = open_source()
    assert source.read().devices[0].lost
    host.describe("count 2")
    assert source.read().devices[0].lost  # NVML learns of a reset GPU only in a new session
    clock.now += RETRY_S
    source.read()
    assert not source.read().devices[0].lost


def test_a_reloaded_driver_is_read_again_in_the_same_reading(host: FakeHost, open_source: OpenSource) -> None:
    host.describe("driver 580.1", "epoch 1")
    source = open_source()
    assert source.read().driver_version == "580.1"
    host.describe("driver 610.2", "epoch 2", "count 2")
    reading = source.read()
    assert reading.driver_version == "610.2"
    assert len(reading.devices) == 2
    assert host.calls("nvmlShutdown") == 1


def test_a_driver_that_goes_away_is_found_when_it_is_back(host: FakeHost, open_source: OpenSource) -> None:
    host.describe("epoch 1")
    source = open_source()
    source.read()
    host.describe("epoch 2", "init 9")
    for _ in range(2):
        with pytest.raises(DriverUnavailable):
            source.read()
    host.describe("epoch 2")
    assert len(source.read().devices) == 1


def test_a_driver_that_goes_away_while_a_session_is_opened_may_refuse_to_end_it(
    host: FakeHost, open_source: OpenSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)

    host.describe(f"gpu 0 handle error:{pynvml.NVML_ERROR_UNINITIALIZED}")
    monkeypatch.setattr(pynvml, "nvmlShutdown", refuse)
    source = open_source()
    with pytest.raises(DriverUnavailable, match="while starting"):
        source.read()
    host.describe()
    assert len(source.read().devices) == 1


def test_a_library_that_another_source_uses_is_not_unloaded(host: FakeHost, open_source: OpenSource) -> None:
    host.describe()
    user, other = open_source(), open_source()
    user.read()
    host.describe("init 18")
    with pytest.raises(DriverUnavailable):
        other.read()
    assert pynvml.nvmlLib is not None
    user.close()
    with pytest.raises(DriverUnavailable):
        other.read()
    assert pynvml.nvmlLib is None


def test_sources_in_many_threads_survive_a_driver_that_is_down(nvml_library: Path, tmp_path: Path) -> None:
    """In a process of its own, which a library unloaded under another thread's feet would crash."""
    program = (
        "import threading\n"
        "from exporter.hardware.errors import GpuError\n"
        "from exporter.hardware.nvml.source import NvmlSource\n"
        "def hammer():\n"
        "    for _ in range(200):\n"
        "        source = NvmlSource()\n"
        "        try:\n"
        "            source.read()\n"
        "        except GpuError:\n"
        "            pass\n"
        "        source.close()\n"
        "threads = [threading.Thread(target=hammer) for _ in range(8)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
    )
    scenario = tmp_path / "down.txt"
    scenario.write_text("init 9\n")
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(nvml_library.parent),
        fake_nvml.SCENARIO_VARIABLE: str(scenario),
    }
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_pynvml_still_has_the_private_names_that_unloading_needs() -> None:
    assert hasattr(pynvml, "nvmlLib")
    assert isinstance(pynvml._nvmlGetFunctionPointer_cache, dict)
    assert isinstance(ctypes.CDLL(None)._handle, int)


def test_everybody_in_a_process_shares_one_source_and_the_last_closes_it(host: FakeHost) -> None:
    host.describe("count 2")
    shared = SharedSource(lambda: NvmlSource(xids=XidWatcher(wait_ms=10)))
    first, second = shared.use(), shared.use()
    assert len(first.read().devices) == len(second.read().devices) == 2
    assert host.calls("nvmlInitWithFlags") == 1
    first.close()
    first.close()
    assert len(second.read().devices) == 2
    with pytest.raises(HardwareError, match="closed"):
        first.read()
    second.close()
    assert host.calls("nvmlShutdown") == 1
    assert shared.xid_counts() is None


def test_a_library_that_could_not_be_initialised_is_let_go(host: FakeHost, open_source: OpenSource) -> None:
    host.describe("init 18")
    source = open_source()
    with pytest.raises(DriverUnavailable, match="initialised"):
        source.read()
    assert pynvml.nvmlLib is None
    host.describe()
    assert len(source.read().devices) == 1


def test_a_missing_library_is_looked_for_once_a_minute(
    host: FakeHost, open_source: OpenSource, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.describe()
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


def test_a_closed_source_leaves_no_session_behind(host: FakeHost, open_source: OpenSource) -> None:
    host.describe()
    source = open_source()
    source.read()
    source.close()
    source.close()
    assert host.calls("nvmlInitWithFlags") == host.calls("nvmlShutdown") == 1
