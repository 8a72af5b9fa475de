"""Extracts the input of attribution.py from readings of GPUs and host: GPU use, process names, process tree. Pure.

Does not depend on instances; attribution.py decides.
"""

from collections.abc import Iterable, Mapping

from exporter.hardware.attribution import GpuUse, ProcessTree
from exporter.hardware.gpus import Device
from exporter.hardware.host import HostReading, ProcessRole


def uses_of(devices: Iterable[Device]) -> list[GpuUse]:
    """List what the processes on the GPUs hold; a GPU that lists none adds nothing."""
    return [
        GpuUse(device.index, process.pid, process.memory_bytes)
        for device in devices
        for process in device.processes or ()
    ]


def pids_of(devices: Iterable[Device]) -> frozenset[int]:
    """Collect the pids on the GPUs."""
    return frozenset(process.pid for device in devices for process in device.processes or ())


def names_of(devices: Iterable[Device]) -> dict[int, str]:
    """Collect the process names that the GPUs' source reports."""
    return {
        process.pid: process.name for device in devices for process in device.processes or () if process.name
    }


def tree_of(host: HostReading, names: Mapping[int, str]) -> ProcessTree | None:
    """Describe the daemon's processes; None when they cannot be seen. `names` are those of any processes."""
    daemon = next((process.pid for process in host.processes if process.role is ProcessRole.DAEMON), None)
    if daemon is None:
        return None
    return ProcessTree(
        daemon_pid=daemon,
        parents=dict(host.parents),
        model_paths={process.pid: process.model_path for process in host.processes if process.model_path},
        names={**names, **{process.pid: process.name for process in host.processes if process.name}},
    )
