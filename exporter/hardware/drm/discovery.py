"""Finds the GPUs of amdgpu, xe and i915 below /sys/class/drm, and learns what does not change about them.

A GPU is a DRM node named cardN whose device is a PCI function. The nodes of an AMD GPU's compute partitions belong to
platform devices (Source: drivers/gpu/drm/amd/amdxcp) and are no GPUs of their own.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from exporter.hardware.drm.files import entries, numbered, read_int, read_text
from exporter.hardware.drm.names import product_name

_PCI_ADDRESS: Final = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_INTEL_INTEGRATED: Final = "0000:00:02.0"
"""Where the integrated GPU of an Intel processor always is."""


class Driver(StrEnum):
    """The kernel drivers that are read."""

    AMDGPU = "amdgpu"
    XE = "xe"
    I915 = "i915"


VENDORS: Final = {Driver.AMDGPU: "amd", Driver.XE: "intel", Driver.I915: "intel"}


@dataclass(frozen=True, slots=True)
class DrmGpu:
    """The constant properties of one GPU while its driver is bound."""

    driver: Driver
    pci_address: str
    """As in fdinfo's drm-pdev: 0000:03:00.0."""
    node: str
    """Path of the DRM node: /sys/class/drm/card1. i915 keeps its own attributes there."""
    device: str
    """Path of the PCI function: what amdgpu and xe add attributes to."""
    hwmon: str | None
    link: str
    """Path of the PCI function whose link leads off the GPU; see _outer_port."""
    integrated: bool
    """Shares the host's memory."""
    name: str
    unique_id: str | None

    @property
    def vendor(self) -> str:
        """Amd or intel, as in `gpu_device_info`."""
        return VENDORS[self.driver]


def find_gpus(sysfs: str, share: str) -> list[DrmGpu]:
    """List the GPUs, by PCI address; none where there is no /sys/class/drm.

    `share` is where product names are looked up (/usr/share).
    """
    found = [gpu for node in numbered(f"{sysfs}/class/drm", "card") if (gpu := _describe(node, share))]
    return sorted(found, key=lambda gpu: gpu.pci_address)


def count_nvidia(sysfs: str) -> int:
    """Count the NVIDIA GPUs that the PCI bus has, whether their driver answers or not."""
    devices = f"{sysfs}/bus/pci/devices"
    return sum(
        read_int(f"{devices}/{name}/vendor") == _NVIDIA
        and ((read_int(f"{devices}/{name}/class") or 0) >> 16) == _DISPLAY_CLASS
        for name in entries(devices)
    )


_NVIDIA: Final = 0x10DE
_DISPLAY_CLASS: Final = 0x03


def _describe(node: str, share: str) -> DrmGpu | None:
    device = os.path.realpath(f"{node}/device")
    driver = os.path.basename(os.path.realpath(f"{device}/driver"))  # noqa: PTH119 - paths are strings here
    address = os.path.basename(device)  # noqa: PTH119
    if driver not in set(Driver) or not _PCI_ADDRESS.fullmatch(address):
        return None
    hwmon = next(_hwmons(device, driver), None)
    return DrmGpu(
        driver=Driver(driver),
        pci_address=address,
        node=node,
        device=device,
        hwmon=hwmon,
        link=_outer_port(device),
        integrated=_is_integrated(Driver(driver), address, hwmon),
        name=product_name(device, share),
        unique_id=read_text(f"{device}/unique_id"),
    )


def _hwmons(device: str, driver: str) -> Iterator[str]:
    """Yield the sensors of the whole GPU; i915 has further ones per GT, named i915_gtN."""
    for path in numbered(f"{device}/hwmon", "hwmon"):
        if read_text(f"{path}/name") == driver:
            yield path


def _is_integrated(driver: Driver, address: str, hwmon: str | None) -> bool:
    if driver is not Driver.AMDGPU:
        return address == _INTEL_INTEGRATED
    # Source: Documentation/gpu/amdgpu/thermal.rst: the Northbridge voltage is there on APUs only.
    return hwmon is not None and read_text(f"{hwmon}/in1_label") is not None


def _outer_port(device: str) -> str:
    """Find the port whose link leads to the host.

    Discrete AMD and Intel GPUs sit behind a PCIe switch of their own: the link of the GPU's function is inside it and
    not the slot's (Intel Arc shows 2.5 GT/s x1 there). The switch has the GPU's vendor id; the topmost port of it
    that is not on the root bus is the one in the slot.
    """
    vendor = read_int(f"{device}/vendor")
    port = device
    while True:
        parent = os.path.dirname(port)  # noqa: PTH120
        above = os.path.basename(os.path.dirname(parent))  # noqa: PTH119, PTH120
        if not _PCI_ADDRESS.fullmatch(above) or read_int(f"{parent}/vendor") != vendor:
            return port
        port = parent
