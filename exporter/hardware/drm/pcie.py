"""Reads the PCIe link of a port: generation and lanes. Source: Documentation/ABI/testing/sysfs-bus-pci."""

from typing import Final

from exporter.hardware.drm.files import read_int, read_text
from exporter.hardware.gpus import PcieLink

_GENERATIONS: Final = {"2.5": 1, "5.0": 2, "8.0": 3, "16.0": 4, "32.0": 5, "64.0": 6}
"""By speed in GT/s as the kernel writes it: "16.0 GT/s PCIe"."""


def read_link(port: str) -> PcieLink:
    """Read the link of a port; this does not wake a sleeping GPU."""
    return PcieLink(
        generation=_generation(f"{port}/current_link_speed"),
        generation_max=_generation(f"{port}/max_link_speed"),
        width=read_int(f"{port}/current_link_width") or None,
        width_max=_width_max(port),
    )


def _generation(path: str) -> int | None:
    text = read_text(path)
    return None if text is None else _GENERATIONS.get(text.split()[0])


def _width_max(port: str) -> int | None:
    width = read_int(f"{port}/max_link_width")
    return None if width in (None, 0, 255) else width  # 255: the port has no link
