"""Hold our reading of AMD GPUs against rocm-smi's, while a process allocates known amounts of memory.

For a host with an AMD GPU, ROCm and an OpenCL driver: `python -m tests.hardware.compare_rocm_smi`. Prints one line per
value and exits with 1 when a line disagrees, with 2 when there is nothing to compare. Needs no root.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from exporter.hardware.drm.source import DrmSource
from exporter.hardware.gpus import Device
from tests.hardware.comparison import Line, compare, compare_allocations, verdict
from tests.hardware.opencl import OpenClError

QUESTIONS = (
    "--showbus",
    "--showmeminfo",
    "vram",
    "--showuse",
    "--showmemuse",
    "--showtemp",
    "--showpower",
    "--json",
)


@dataclass(frozen=True, slots=True)
class Field:
    """One of rocm-smi's values, by how its name begins (Assumed, from its public source), beside ours in its unit."""

    name: str
    ours: Callable[[Device], float | None]
    tolerance: float | None


def _edge(device: Device) -> float | None:
    """Give the edge sensor alone: where there is none, `gpu` repeats the hotspot."""
    sensors = device.temperatures_celsius
    return None if sensors.get("gpu") == sensors.get("hotspot") else sensors.get("gpu")


FIELDS = (
    Field(
        "VRAM Total Memory (B)",
        lambda device: None if device.memory is None else device.memory.total_bytes,
        0,
    ),
    Field(
        "VRAM Total Used Memory (B)",
        lambda device: None if device.memory is None else device.memory.used_bytes,
        64 * 2**20,
    ),
    Field("GPU use (%)", lambda device: _percent(device.utilization_ratio), None),
    Field("Temperature (Sensor edge) (C)", _edge, 3),
    Field("Temperature (Sensor junction) (C)", lambda device: device.temperatures_celsius.get("hotspot"), 3),
    Field("Temperature (Sensor memory) (C)", lambda device: device.temperatures_celsius.get("memory"), 3),
)


def compare_gpus(devices: tuple[Device, ...], answers: Mapping[str, Mapping[str, str]]) -> Iterator[Line]:
    """Compare every field of every GPU. A value that only one of the two reports is a difference."""
    by_address = {answer.get("PCI Bus", "").lower(): answer for answer in answers.values()}
    for device in devices:
        answer = by_address.pop(device.pci_bus_id or "", None)
        gpu = device.pci_bus_id or ""
        if answer is None:
            yield Line(gpu, "PCI Bus", gpu, "not listed", agrees=False)
            continue
        for field in FIELDS:
            yield compare(
                gpu, field.name, field.ours(device), number(answer.get(field.name)), field.tolerance
            )
    for address in by_address:
        yield Line(address, "PCI Bus", "not listed", address, agrees=False)


def number(text: str | None) -> float | None:
    """Read a value; None for N/A and what is missing."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _percent(ratio: float | None) -> float | None:
    return None if ratio is None else ratio * 100


def main() -> int:
    """Compare, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--mib", type=int, default=512, help="size of each of the three allocations")
    arguments = parser.parse_args()
    if shutil.which("rocm-smi") is None:
        print("rocm-smi is not installed here: nothing to compare with", file=sys.stderr)
        return 2
    source = DrmSource()
    devices = tuple(one for one in source.read().devices if one.vendor == "amd")
    if not devices:
        print("no AMD GPU on this host", file=sys.stderr)
        return 2
    ran = subprocess.run(["rocm-smi", *QUESTIONS], capture_output=True, text=True, check=True)

    def lines() -> Iterator[Line]:
        yield from compare_gpus(devices, json.loads(ran.stdout))
        try:
            yield from compare_allocations(source, "amd", arguments.mib, os.getpid())
        except OpenClError as error:
            print(f"allocations are not compared: {error}", file=sys.stderr)

    return verdict(lines())


if __name__ == "__main__":
    sys.exit(main())
