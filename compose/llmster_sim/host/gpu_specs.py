"""Name the GPUs that can be simulated: what their makers print on the box, and how they behave under load."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GpuSpec:
    """One product. `slow_c` is the temperature at which it begins to slow down.

    `has_energy_counter` tells whether its driver counts energy, as NVIDIA's does and amdgpu does for data-centre
    products only. `mig` are the sizes of its partitions; `has_ecc` and `nvlinks` are what data-centre products have.
    """

    name: str
    vendor: str
    total_bytes: int
    idle_w: float
    max_w: float
    full_load_c: float
    slow_c: float
    compute: str
    clock_mhz: int
    memory_clock_mhz: int
    pcie_generation: int
    pcie_width: int = 16
    fans: int = 2
    has_energy_counter: bool = True
    has_video_units: bool = True
    has_ecc: bool = False
    nvlinks: int = 0
    mig: tuple[int, ...] = ()


RTX_4090 = GpuSpec(
    name="NVIDIA GeForce RTX 4090",  # name and size as a recorded surveyHardware has them
    vendor="nvidia",
    total_bytes=25_757_220_864,
    idle_w=24.0,
    max_w=450.0,
    full_load_c=74.0,
    slow_c=72.5,
    compute="8.9",
    clock_mhz=2520,
    memory_clock_mhz=10501,
    pcie_generation=4,
)
RX_7700_XT = GpuSpec(
    name="AMD Radeon RX 7700 XT",
    vendor="amd",
    total_bytes=12_884_901_888,
    idle_w=16.0,
    max_w=245.0,
    full_load_c=72.0,
    slow_c=71.0,
    compute="11.0",
    clock_mhz=2544,
    memory_clock_mhz=2250,
    pcie_generation=4,
    fans=1,
    has_energy_counter=False,
    has_video_units=False,  # amdgpu has no value for them
)
H100 = GpuSpec(
    name="NVIDIA H100 80GB HBM3",
    vendor="nvidia",
    total_bytes=85_520_809_984,
    idle_w=70.0,
    max_w=700.0,
    full_load_c=66.0,
    slow_c=85.0,
    compute="9.0",
    clock_mhz=1980,
    memory_clock_mhz=2619,
    pcie_generation=5,
    fans=0,
    has_ecc=True,
    nvlinks=4,
)
H100_MIG = dataclasses.replace(H100, nvlinks=0, mig=(42_949_672_960, 21_474_836_480))


def specs_of(scenario: str, count: int) -> tuple[GpuSpec, ...]:
    """Give the GPUs of a host: a GeForce and a Radeon, unless the scenario is about a data-centre product."""
    parts = scenario.split("+")
    first = H100_MIG if "mig" in parts else H100 if "ecc" in parts else RTX_4090
    return tuple(first if index == 0 else RX_7700_XT for index in range(count))
