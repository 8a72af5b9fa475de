"""The errors of reading the host, as one tree.

`kind` is a short stable word that callers may count or print. The caller decides whether an absence is a fault.

HardwareError
 ├── HostStalled            the host's processes could not be read within the deadline
 └── GpuError               no reading of the GPUs this time
     ├── NvmlNotFound       no NVML library: a host without an NVIDIA driver
     ├── DriverUnavailable  the library is there, the driver does not serve it
     └── DriverWedged       the driver has not answered within the deadline
"""

from typing import ClassVar


class HardwareError(Exception):
    """Base of everything this package raises on purpose."""

    kind: ClassVar[str] = "error"


class HostStalled(HardwareError):
    """The host has not answered within the deadline: /proc blocks on a process that is itself stuck."""

    kind = "host_stalled"


class GpuError(HardwareError):
    """The GPUs could not be read this time."""

    kind = "gpu"


class NvmlNotFound(GpuError):
    """There is no NVML library to ask: usually a host without an NVIDIA GPU."""

    kind = "no_nvml"


class DriverUnavailable(GpuError):
    """NVML is installed, but the driver does not serve it: not loaded, reloading, or of another version."""

    kind = "no_driver"


class DriverWedged(GpuError):
    """The driver has not answered within the deadline, or an earlier question still has no answer."""

    kind = "wedged"
