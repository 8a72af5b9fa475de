"""Hold our reading of Intel GPUs against xpu-smi's, while a process allocates known amounts of memory.

For a host with an Intel GPU, XPU Manager and an OpenCL driver: `python -m tests.hardware.compare_xpu_smi`. Prints one
line per value and exits with 1 when a line disagrees, with 2 when there is nothing to compare.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from exporter.hardware.drm.source import DrmSource
from exporter.hardware.gpus import Device
from tests.hardware.comparison import Line, compare, compare_allocations, verdict
from tests.hardware.opencl import OpenClError


@dataclass(frozen=True, slots=True)
class Field:
    """One of xpu-smi's metrics (Assumed, from its public documentation) beside ours in its unit."""

    name: str
    ours: Callable[[Device], float | None]
    tolerance: float | None


def _megahertz(device: Device) -> float | None:
    hertz = device.clocks_hertz.get("graphics")
    return None if hertz is None else hertz / 1e6


def _percent(device: Device) -> float | None:
    return None if device.utilization_ratio is None else device.utilization_ratio * 100


FIELDS = (
    Field("XPUM_STATS_GPU_CORE_TEMPERATURE", lambda device: device.temperatures_celsius.get("gpu"), 3),
    Field("XPUM_STATS_MEMORY_TEMPERATURE", lambda device: device.temperatures_celsius.get("memory"), 3),
    Field("XPUM_STATS_POWER", lambda device: device.power_watts, None),
    Field("XPUM_STATS_GPU_FREQUENCY", _megahertz, None),
    Field("XPUM_STATS_GPU_UTILIZATION", _percent, None),
)


def compare_gpus(devices: tuple[Device, ...], stats: Mapping[str, Mapping[str, float]]) -> Iterator[Line]:
    """Compare every field of every GPU, by PCI address. A value that only one of the two reports is a difference."""
    for device in devices:
        gpu = device.pci_bus_id or ""
        values = stats.get(gpu)
        if values is None:
            yield Line(gpu, "pci_bdf_address", gpu, "not listed", agrees=False)
            continue
        for field in FIELDS:
            yield compare(gpu, field.name, field.ours(device), values.get(field.name), field.tolerance)
    for address in stats.keys() - {device.pci_bus_id for device in devices}:
        yield Line(address, "pci_bdf_address", "not listed", address, agrees=False)


def ask_xpu_smi() -> dict[str, dict[str, float]]:
    """Ask for every GPU's metrics, by PCI address."""
    found: dict[str, dict[str, float]] = {}
    for device in _json("discovery", "-j")["device_list"]:
        stats = _json("stats", "-d", str(device["device_id"]), "-j")
        found[device["pci_bdf_address"]] = {
            metric["metrics_type"]: float(metric["value"]) for metric in stats.get("device_level", [])
        }
    return found


def _json(*arguments: str) -> Any:
    ran = subprocess.run(["xpu-smi", *arguments], capture_output=True, text=True, check=True)
    return json.loads(ran.stdout)


def main() -> int:
    """Compare, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--mib", type=int, default=512, help="size of each of the three allocations")
    arguments = parser.parse_args()
    if shutil.which("xpu-smi") is None:
        print("xpu-smi is not installed here: nothing to compare with", file=sys.stderr)
        return 2
    source = DrmSource()
    source.read()  # power and utilization are what two readings differ by
    stats = ask_xpu_smi()
    devices = tuple(one for one in source.read().devices if one.vendor == "intel")
    if not devices:
        print("no Intel GPU on this host", file=sys.stderr)
        return 2

    def lines() -> Iterator[Line]:
        yield from compare_gpus(devices, stats)
        try:
            yield from compare_allocations(source, "intel", arguments.mib, os.getpid())
        except OpenClError as error:
            print(f"allocations are not compared: {error}", file=sys.stderr)

    return verdict(lines())


if __name__ == "__main__":
    sys.exit(main())
