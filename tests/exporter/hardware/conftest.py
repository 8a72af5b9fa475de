from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import fake_nvml
from tests.external import FindTool
from tests.fake_nvml import Machine


@pytest.fixture(scope="session", name="nvml_library")
def _nvml_library(external_tool: FindTool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_nvml.build(external_tool("gcc"), tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def machine(nvml_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    machine = Machine(nvml_library, tmp_path)
    if not machine.is_loaded_by_name():
        pytest.skip("this process has loaded the NVML of a real driver already")
    monkeypatch.setenv(fake_nvml.SCENARIO_VARIABLE, str(machine.scenario))
    machine.reset()
    yield machine
    machine.reset()
