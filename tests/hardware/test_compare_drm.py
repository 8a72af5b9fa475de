"""The comparisons of AMD and Intel GPUs, which have to be able to disagree: no GPU needed."""

from dataclasses import replace

import pytest

from exporter.hardware.gpus import Device, Memory
from tests.hardware import compare_rocm_smi, compare_xpu_smi
from tests.hardware.comparison import Line, verdict

AMD = Device(
    0,
    pci_bus_id="0000:03:00.0",
    memory=Memory(24 * 2**30, 2**30, 23 * 2**30),
    utilization_ratio=0.5,
    temperatures_celsius={"gpu": 60.0, "hotspot": 80.0, "memory": 70.0},
)
ROCM_SMI = {
    "PCI Bus": "0000:03:00.0",
    "VRAM Total Memory (B)": str(24 * 2**30),
    "VRAM Total Used Memory (B)": str(2**30),
    "GPU use (%)": "51",
    "Temperature (Sensor edge) (C)": "61.0",
    "Temperature (Sensor junction) (C)": "80.0",
    "Temperature (Sensor memory) (C)": "70.0",
}
ARC = Device(
    0, pci_bus_id="0000:03:00.0", power_watts=150, clocks_hertz={"graphics": 2.4e9}, utilization_ratio=1
)
XPU_SMI = {"XPUM_STATS_POWER": 149.0, "XPUM_STATS_GPU_FREQUENCY": 2400.0, "XPUM_STATS_GPU_UTILIZATION": 99.0}


def differing(lines: list[Line]) -> list[str]:
    return [line.what for line in lines if not line.agrees]


def rocm(changed: dict[str, str], device: Device = AMD) -> list[str]:
    return differing(list(compare_rocm_smi.compare_gpus((device,), {"card0": ROCM_SMI | changed})))


def test_equal_readings_of_amd_agree() -> None:
    assert rocm({}) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("VRAM Total Memory (B)", "1"), ("GPU use (%)", "N/A"), ("Temperature (Sensor memory) (C)", "90.0")],
)
def test_a_value_of_amd_that_differs_or_only_one_reports_is_told(name: str, value: str) -> None:
    assert rocm({name: value}) == [name]


def test_an_amd_gpu_that_only_one_lists_is_told() -> None:
    assert rocm({"PCI Bus": "0000:04:00.0"}) == ["PCI Bus", "PCI Bus"]


def test_equal_readings_of_intel_agree_and_what_is_missing_is_told() -> None:
    assert differing(list(compare_xpu_smi.compare_gpus((ARC,), {"0000:03:00.0": XPU_SMI}))) == []
    silent = replace(ARC, power_watts=None)
    assert differing(list(compare_xpu_smi.compare_gpus((silent,), {"0000:03:00.0": XPU_SMI}))) == [
        "XPUM_STATS_POWER"
    ]
    assert differing(list(compare_xpu_smi.compare_gpus((ARC,), {}))) == ["pci_bdf_address"]


def test_one_difference_makes_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict([Line("0", "a", "1", "1", agrees=True)]) == 0
    assert verdict([Line("0", "a", "1", "2", agrees=False)]) == 1
    assert "DIFFERS" in capsys.readouterr().out
