"""Reads the GPUs of all vendors together, each vendor's source in its own thread.

A vendor whose driver fails or does not answer costs its own GPUs only.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from exporter.hardware.deadline import DEADLINE_S, GpuReader
from exporter.hardware.drm.discovery import Driver, count_nvidia
from exporter.hardware.drm.source import DrmSource
from exporter.hardware.errors import HardwareError, NvmlNotFound
from exporter.hardware.gpus import Device, GpuReading, GpuSource
from exporter.hardware.nvml.shared import SharedUse, shared_nvml
from exporter.hardware.nvml.source import NvmlSource

log = logging.getLogger(__name__)

NVIDIA: Final = "nvidia"

Sources = Mapping[str, GpuSource]
"""By vendor, in the order in which GPUs are numbered."""


def local_sources() -> dict[str, GpuSource]:
    """Make the sources of the GPUs of this host: NVML for NVIDIA's, the kernel's files for AMD's and Intel's."""
    return {
        NVIDIA: shared_nvml(),
        "amd": DrmSource({Driver.AMDGPU}),
        "intel": DrmSource({Driver.XE, Driver.I915}),
    }


@dataclass(frozen=True, slots=True)
class HostGpus:
    """One reading of all GPUs of a host. A vendor without a driver is in neither mapping."""

    readings: Mapping[str, GpuReading] = field(default_factory=dict)
    """By vendor; each GPU has a number that no other GPU of the host has."""
    problems: Mapping[str, HardwareError] = field(default_factory=dict)
    """By vendor: why its GPUs could not be read this time."""

    @property
    def devices(self) -> tuple[Device, ...]:
        """All GPUs, by number."""
        return tuple(
            sorted(
                (device for reading in self.readings.values() for device in reading.devices),
                key=lambda device: device.index,
            )
        )

    def source_of(self, vendor: str) -> str:
        """Say what a vendor's GPUs are read by: nvml, sysfs, or simulated."""
        reading = self.readings.get(vendor)
        if reading is not None and reading.simulated:
            return "simulated"
        return "nvml" if vendor == NVIDIA else "sysfs"


class GpuReaders:
    """Reads the sources of all vendors at once. Each has its own thread and deadline."""

    def __init__(self, sources: Sources, *, nvidia_gpus: Callable[[], int] | None = None) -> None:
        """`nvidia_gpus` counts the GPUs whose numbers are kept free for NVML: those on the bus, where it is real."""
        if nvidia_gpus is None:
            is_real = isinstance(sources.get(NVIDIA), NvmlSource | SharedUse)
            nvidia_gpus = functools.partial(count_nvidia, "/sys") if is_real else lambda: 0
        self._readers = {
            vendor: GpuReader(source, subject=f"the {vendor} GPU driver")
            for vendor, source in sources.items()
        }
        self._numbers = _Numbers(nvidia_gpus)
        self._told: dict[str, str] = {}

    async def read(self, *, within_s: float = DEADLINE_S) -> HostGpus:
        """Read every vendor's GPUs now. Raises nothing: what fails is in `problems`."""
        answers = await asyncio.gather(
            *(reader.read(within_s=within_s) for reader in self._readers.values()), return_exceptions=True
        )
        readings: dict[str, GpuReading] = {}
        problems: dict[str, HardwareError] = {}
        for vendor, answer in zip(self._readers, answers, strict=True):
            if isinstance(answer, GpuReading):
                if answer.devices or vendor == NVIDIA:
                    readings[vendor] = self._numbers.number(vendor, answer)
            elif not isinstance(answer, NvmlNotFound):
                problems[vendor] = _problem_of(answer)
            self._tell_change(vendor, problems.get(vendor))
        return HostGpus(_without_shadowed_memory(readings), problems)

    def xid_counts(self) -> Mapping[tuple[str, int], int] | None:
        """Count XID errors by (gpu uuid, xid); None when no GPU can be watched. Never blocks."""
        counts = [found for reader in self._readers.values() if (found := reader.xid_counts()) is not None]
        return {key: count for found in counts for key, count in found.items()} if counts else None

    def close(self) -> None:
        """Let go of the drivers, without waiting for one that does not answer."""
        for reader in self._readers.values():
            reader.close()

    def _tell_change(self, vendor: str, problem: HardwareError | None) -> None:
        """Log when GPUs stop or start being readable, not at every reading in between."""
        kind = problem.kind if problem is not None else ""
        if kind == self._told.get(vendor, ""):
            return
        self._told[vendor] = kind
        if problem is None:
            log.info("GPUs readable again", extra={"vendor": vendor})
        else:
            log.warning("GPUs not readable", extra={"vendor": vendor, "kind": kind, "problem": str(problem)})


class _Numbers:
    """Gives every GPU a number of its own that it keeps: NVML's own for NVIDIA's, the next free for the others."""

    def __init__(self, nvidia_gpus: Callable[[], int]) -> None:
        self._nvidia_gpus = nvidia_gpus
        self._kept_free: int | None = None
        self._given: dict[tuple[str, str | int], int] = {}

    def number(self, vendor: str, reading: GpuReading) -> GpuReading:
        """Give the GPUs of one reading their numbers."""
        if vendor == NVIDIA and not any(other != NVIDIA for other, _ in self._given):
            for device in reading.devices:
                self._given[vendor, device.index] = device.index
            return reading
        return replace(
            reading,
            devices=tuple(
                replace(device, index=self._number_of(vendor, device)) for device in reading.devices
            ),
        )

    def _number_of(self, vendor: str, device: Device) -> int:
        key = (vendor, device.index)
        if key not in self._given:
            taken = set(self._given.values())
            if vendor == NVIDIA and device.index not in taken:
                self._given[key] = device.index
            else:
                if self._kept_free is None:
                    self._kept_free = self._nvidia_gpus()
                self._given[key] = next(
                    number
                    for number in range(self._kept_free, self._kept_free + len(taken) + 1)
                    if number not in taken
                )
        return self._given[key]


def _without_shadowed_memory(readings: Mapping[str, GpuReading]) -> Mapping[str, GpuReading]:
    """Take the memory of integrated GPUs out where the host has dedicated ones.

    It is the host's memory, which models use only without a dedicated GPU; added to that of dedicated GPUs it would
    show room for models that do not fit.
    """
    if all(_is_integrated(device) for reading in readings.values() for device in reading.devices):
        return readings
    return {
        vendor: replace(
            reading,
            devices=tuple(
                replace(device, memory=None) if _is_integrated(device) else device
                for device in reading.devices
            ),
        )
        for vendor, reading in readings.items()
    }


def is_shadowed(device: Device) -> bool:
    """Tell an integrated GPU whose memory was taken out because the host has dedicated ones."""
    return _is_integrated(device) and device.memory is None


def _is_integrated(device: Device) -> bool:
    """Tell the GPU beside a processor's cores from NVIDIA's parts with unified memory, which are made for models."""
    return device.unified and device.vendor != NVIDIA


def _problem_of(error: BaseException) -> HardwareError:
    """Name what went wrong: a bug must cost this part of the reading, not the scrape."""
    if isinstance(error, HardwareError):
        return error
    if not isinstance(error, Exception):
        raise error
    log.error("reading GPUs failed", exc_info=error)
    return HardwareError(f"internal error: {type(error).__name__}")
