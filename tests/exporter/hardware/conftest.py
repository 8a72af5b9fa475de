"""A host with GPUs that tests/fake_nvml describes, a clock to turn, and our source of readings on it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from exporter.hardware.gpus import Memory
from exporter.hardware.nvml.source import NvmlSource
from exporter.hardware.nvml.xid_events import XidWatcher
from tests import fake_nvml
from tests.external import FindTool
from tests.fake_nvml import FakeHost

GIB = 1024**3

HOST = Memory(total_bytes=128 * GIB, used_bytes=48 * GIB, free_bytes=80 * GIB)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


OpenSource = Callable[..., NvmlSource]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_source(clock: Clock) -> Iterator[OpenSource]:
    opened: list[NvmlSource] = []

    def open_one(**options: Any) -> NvmlSource:
        source = NvmlSource(host_memory=lambda: HOST, clock=clock, xids=XidWatcher(wait_ms=10), **options)
        opened.append(source)
        return source

    yield open_one
    for source in opened:
        source.close()


@pytest.fixture(scope="session", name="nvml_library")
def _nvml_library(external_tool: FindTool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_nvml.build(external_tool("gcc"), tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def host(nvml_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHost]:
    host = FakeHost(nvml_library, tmp_path)
    if not host.is_loaded_by_name():
        pytest.skip("this process has loaded the NVML of a real driver already")
    monkeypatch.setenv(fake_nvml.SCENARIO_VARIABLE, str(host.scenario))
    host.reset()
    yield host
    host.reset()
