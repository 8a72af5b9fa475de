"""Free memory of this host, of whatever GPUs it has: known whole, or not known, with the reason."""

import pytest

from actions.capacity.local import MemoryUnknown, read_memory
from exporter.hardware.errors import DriverUnavailable
from exporter.hardware.gpus import Device, GpuProcess, GpuReading, Memory
from exporter.hardware.host import HostReading
from exporter.hardware.vendors import HostGpus
from tests.hosts import GIB

DEDICATED = Device(
    0, vendor="amd", memory=Memory(24 * GIB, 4 * GIB, 20 * GIB), processes=(GpuProcess(7, 4 * GIB),)
)
SHADOWED = Device(1, vendor="intel", unified=True)
ALONE = Device(0, vendor="amd", unified=True, memory=Memory(96 * GIB, 40 * GIB, 30 * GIB))


def gpus(*devices: Device) -> HostGpus:
    readings: dict[str, GpuReading] = {}
    for device in devices:
        before = readings.get(device.vendor, GpuReading(None, None, ())).devices
        readings[device.vendor] = GpuReading(None, None, (*before, device))
    return HostGpus(readings)


def test_memory_of_an_amd_gpu_is_judged_like_any_other() -> None:
    found = read_memory(gpus(DEDICATED), HostReading(), {}, [])

    assert [(gpu.total_bytes, gpu.free_bytes) for gpu in found.gpus] == [(24 * GIB, 20 * GIB)]
    assert [(holder.pid, holder.memory_bytes) for holder in found.holders] == [(7, 4 * GIB)]
    assert found.source == "sysfs"


def test_an_integrated_gpu_beside_a_dedicated_one_is_no_place_for_a_model() -> None:
    assert [gpu.index for gpu in read_memory(gpus(DEDICATED, SHADOWED), HostReading(), {}, []).gpus] == [0]


def test_an_integrated_gpu_alone_is_a_place_for_a_model() -> None:
    assert [gpu.free_bytes for gpu in read_memory(gpus(ALONE), HostReading(), {}, []).gpus] == [30 * GIB]


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (HostGpus(), "no GPU driver answers"),
        (
            HostGpus({"amd": gpus(DEDICATED).readings["amd"]}, {"nvidia": DriverUnavailable("unloaded")}),
            "unloaded",
        ),
        (gpus(Device(0, vendor="intel")), "GPU 0 does not report"),
        (gpus(DEDICATED, Device(1, vendor="amd", lost=True)), "GPU 1 does not report"),
    ],
)
def test_memory_that_is_not_known_of_every_gpu_is_not_known(found: HostGpus, reason: str) -> None:
    with pytest.raises(MemoryUnknown, match=reason):
        read_memory(found, HostReading(), {}, [])
