"""One NVML source shared by this process: made by the first user, closed by the last.

Otherwise several users would query every GPU several times per reading, and watch its XID errors several times.
"""

import threading
from collections.abc import Callable, Mapping

from exporter.hardware.errors import HardwareError
from exporter.hardware.gpus import GpuReading, GpuSource
from exporter.hardware.nvml.source import NvmlSource


class SharedSource:
    """The source and its users. Thread-safe: one reading at a time."""

    def __init__(self, make: Callable[[], GpuSource]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._source: GpuSource | None = None
        self._users = 0

    def use(self) -> "SharedUse":
        """Become a user."""
        with self._lock:
            self._users += 1
        return SharedUse(self)

    def read(self) -> GpuReading:
        """Read the source, making it first. Raises GpuError."""
        with self._lock:
            if self._source is None:
                self._source = self._make()
            return self._source.read()

    def xid_counts(self) -> Mapping[tuple[str, int], int] | None:
        """Count XID errors; never blocks."""
        source = self._source
        return source.xid_counts() if source is not None else None

    def leave(self) -> None:
        """Stop being a user; the last one closes the source."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._source is not None:
                source, self._source = self._source, None
                source.close()


class SharedUse:
    """One user's side of a shared source: a GpuSource of its own."""

    def __init__(self, shared: SharedSource) -> None:
        self._shared: SharedSource | None = shared

    def read(self) -> GpuReading:
        """Read the source. Raises GpuError; HardwareError when this user has closed it."""
        if self._shared is None:
            raise HardwareError("the GPU source is closed")
        return self._shared.read()

    def xid_counts(self) -> Mapping[tuple[str, int], int] | None:
        """Count XID errors; never blocks."""
        return self._shared.xid_counts() if self._shared is not None else None

    def close(self) -> None:
        """Stop using it."""
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.leave()


_NVML = SharedSource(NvmlSource)


def shared_nvml() -> SharedUse:
    """Use the NVIDIA GPUs of this host together with the other users in this process."""
    return _NVML.use()
