"""GPUs as metrics: a part keeps its number, whatever the others do."""

from exporter.collectors import gpu
from exporter.collectors.base import Scrape
from exporter.hardware.gpus import Device, GpuReading
from exporter.hardware.vendors import HostGpus
from exporter.pipeline.host_snapshot import HostSnapshot
from tests.exporter.collectors.values import by, collected
from tests.exporter.readings import NOW_S


def test_a_fan_that_does_not_answer_leaves_the_others_their_numbers() -> None:
    host = HostSnapshot(
        gpus=HostGpus({"nvidia": GpuReading(None, None, (Device(0, fan_ratios={1: 0.5, 2: 0.75}),))})
    )
    samples = collected(gpu.collect, Scrape(now_s=NOW_S, daemons=(), host=host))
    assert by(samples, "gpu_fan_speed_ratio", "fan") == {"1": 0.5, "2": 0.75}
