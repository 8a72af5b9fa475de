"""Reads the host's NVIDIA GPUs through NVML, and recovers when the driver comes, goes or is replaced.

Does not depend on deadlines or threads (see deadline.py): a read blocks for as long as the driver does.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import pynvml

from exporter.hardware.errors import DriverUnavailable, DriverWedged, NvmlNotFound
from exporter.hardware.gpus import Device, GpuReading, Memory
from exporter.hardware.host import read_memory
from exporter.hardware.nvml import library
from exporter.hardware.nvml.capabilities import Capabilities, learn
from exporter.hardware.nvml.gpm import GpmSampler
from exporter.hardware.nvml.query import SESSION_OVER, ask
from exporter.hardware.nvml.readings import observe
from exporter.hardware.nvml.xid_events import XidWatcher

log = logging.getLogger(__name__)

RETRY_S: Final = 60.0
"""How often at most a missing library is looked for again, and a lost GPU is asked for in a new session."""


def memory_shared_with_host() -> Memory | None:
    """Give the host's memory in the terms of a GPU that has none of its own."""
    memory = read_memory()
    if memory is None:
        return None
    return Memory(
        total_bytes=memory.total_bytes,
        used_bytes=None,  # what is not available is not the GPU's: see readings.py
        free_bytes=memory.available_bytes,
    )


@dataclass(frozen=True, slots=True)
class _Session:
    """One session (nvmlInit): versions, and every GPU (a lost one has its index only)."""

    opened_at: float
    driver_version: str | None
    cuda_version: str | None
    gpus: tuple[Capabilities | Device, ...]


class NvmlSource:
    """The GpuSource of real GPUs. Not for more than one thread at a time, `xid_counts` excepted."""

    def __init__(
        self,
        *,
        host_memory: Callable[[], Memory | None] = memory_shared_with_host,
        clock: Callable[[], float] = time.monotonic,
        xids: XidWatcher | None = None,
    ) -> None:
        self._host_memory = host_memory
        self._clock = clock
        self._xids = xids or XidWatcher()
        self._gpm = GpmSampler(clock=clock)
        self._session: _Session | None = None
        self._identities: dict[int, Device] = {}
        self._library_missing_until = float("-inf")

    def read(self) -> GpuReading:
        """Ask every GPU now. A lost GPU is marked so and the others are read.

        Raises NvmlNotFound (looked for again after a minute) and DriverUnavailable (tried again at the next read).
        """
        fresh = self._session is None
        session = self._session or self._open()
        try:
            return self._read(session)
        except pynvml.NVMLError as error:
            self._end_session()
            if fresh or error.value not in SESSION_OVER:
                raise DriverUnavailable(f"the NVIDIA driver went away: {error}") from error
            log.info("the NVIDIA driver was reloaded; starting over", extra={"problem": str(error)})
        try:
            return self._read(self._open())
        except pynvml.NVMLError as error:
            self._end_session()
            raise DriverUnavailable(f"the NVIDIA driver went away again: {error}") from error

    def xid_counts(self) -> Mapping[tuple[str, int], int] | None:
        """Count XID errors by (gpu uuid, xid) since the first read; None when no GPU can be watched."""
        return self._xids.counts()

    def close(self) -> None:
        """Stop watching and let go of the driver."""
        if self._session is not None:
            self._end_session()

    def _read(self, session: _Session) -> GpuReading:
        devices = tuple(self._read_gpu(gpu) for gpu in session.gpus)
        if any(device.lost for device in devices) and self._clock() - session.opened_at >= RETRY_S:
            self._end_session()  # a GPU that was reset is only seen again by a new session
        return GpuReading(session.driver_version, session.cuda_version, devices)

    def _read_gpu(self, gpu: Capabilities | Device) -> Device:
        if isinstance(gpu, Device):
            return gpu
        try:
            device = observe(gpu, host_memory=self._host_memory)
            return replace(device, activity_ratios=self._gpm.read(gpu.index, gpu.handle))
        except pynvml.NVMLError as error:
            if error.value in SESSION_OVER:
                raise
            return replace(self._identities[gpu.index], lost=True)

    def _open(self) -> _Session:
        if self._clock() < self._library_missing_until:
            raise NvmlNotFound("no NVML library was found a moment ago; it is looked for again every minute")
        try:
            library.begin()
        except pynvml.NVMLError as error:
            if error.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
                self._library_missing_until = self._clock() + RETRY_S
                raise NvmlNotFound("no NVML library (libnvidia-ml.so.1) on this host") from error
            raise DriverUnavailable(f"NVML could not be initialised: {error}") from error
        try:
            count = int(ask(pynvml.nvmlDeviceGetCount) or 0)
            session = _Session(
                opened_at=self._clock(),
                driver_version=ask(pynvml.nvmlSystemGetDriverVersion),
                cuda_version=_cuda_version(ask(pynvml.nvmlSystemGetCudaDriverVersion_v2)),
                gpus=tuple(gpu for index in range(count) if (gpu := self._learn(index)) is not None),
            )
            self._xids.start(gpu for gpu in session.gpus if isinstance(gpu, Capabilities))
        except pynvml.NVMLError as error:
            library.end()
            raise DriverUnavailable(f"the NVIDIA driver went away while starting: {error}") from error
        self._session = session
        return session

    def _learn(self, index: int) -> Capabilities | Device | None:
        """Learn who a counted GPU is: None when this user may not open it, lost when it does not open otherwise."""
        try:
            capabilities = learn(index, pynvml.nvmlDeviceGetHandleByIndex(index))
        except pynvml.NVMLError as error:
            if error.value in SESSION_OVER:
                raise
            if error.value == pynvml.NVML_ERROR_NO_PERMISSION:
                return None
            log.warning("GPU does not open", extra={"gpu": index, "problem": str(error)})
            return replace(self._identities.get(index, Device(index)), lost=True)
        self._identities[index] = Device(
            index, uuid=capabilities.uuid, name=capabilities.name, pci_bus_id=capabilities.pci_bus_id
        )
        return capabilities

    def _end_session(self) -> None:
        if not self._xids.stop():
            raise DriverWedged("the thread that waits for XID errors has not come back from the driver")
        self._session = None
        self._gpm.forget()
        library.end()


def _cuda_version(number: int | None) -> str | None:
    """Write 13020 as "13.2": thousands are the major version, tens the minor (cuda.h, CUDA_VERSION)."""
    return None if number is None else f"{number // 1000}.{number % 1000 // 10}"
