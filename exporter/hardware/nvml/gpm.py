"""Reads how busy the parts of a GPU are, by GPM: the counters of Hopper and newer, where the driver offers them.

GPM compares two samples. The one before is kept from reading to reading, so the first reading has no values.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pynvml

from exporter.hardware.nvml.query import ask

LEAST_S: Final = 0.1
"""Between two samples, as nvml.h asks for; readings closer together repeat the values before."""

METRICS: Final = {
    "graphics": pynvml.NVML_GPM_METRIC_GRAPHICS_UTIL,
    "sm": pynvml.NVML_GPM_METRIC_SM_UTIL,
    "sm_occupancy": pynvml.NVML_GPM_METRIC_SM_OCCUPANCY,
    "tensor": pynvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL,
    "dram": pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL,
    "fp64": pynvml.NVML_GPM_METRIC_FP64_UTIL,
    "fp32": pynvml.NVML_GPM_METRIC_FP32_UTIL,
    "fp16": pynvml.NVML_GPM_METRIC_FP16_UTIL,
}
"""By the part of the GPU; all are percentages."""
_PERCENT: Final = 100


@dataclass(slots=True)
class _SamplePair:
    """Two samples of one GPU, used in turns."""

    newer: Any
    older: Any
    taken_at: float | None = None
    ratios: Mapping[str, float] | None = None


class GpmSampler:
    """The samples of all GPUs of one session with the driver."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: dict[int, _SamplePair | None] = {}

    def read(self, index: int, handle: object) -> Mapping[str, float]:
        """Tell the share of time, or of its most, that each part worked since the reading before, 0 to 1.

        Empty where the GPU or the driver has no GPM. Raises NVMLError as ask() does.
        """
        if index not in self._samples:
            self._samples[index] = _allocate(handle)
        samples = self._samples[index]
        if samples is None:
            return {}
        now = self._clock()
        if samples.taken_at is not None and now - samples.taken_at < LEAST_S:
            return samples.ratios or {}
        if ask(pynvml.nvmlGpmSampleGet, handle, samples.older) is None:
            samples.taken_at = samples.ratios = None
            return {}
        samples.newer, samples.older = samples.older, samples.newer
        first = samples.taken_at is None
        samples.taken_at = now
        samples.ratios = {} if first else _compare(samples)
        return samples.ratios

    def forget(self) -> None:
        """Free every sample: the session is over. Raises nothing."""
        for samples in self._samples.values():
            for sample in () if samples is None else (samples.newer, samples.older):
                try:
                    pynvml.nvmlGpmSampleFree(sample)
                except pynvml.NVMLError:
                    continue  # a driver that went away has freed it
        self._samples.clear()


def _allocate(handle: object) -> _SamplePair | None:
    support = ask(pynvml.nvmlGpmQueryDeviceSupport, handle)
    if support is None or not support.isSupportedDevice:
        return None
    newer, older = ask(pynvml.nvmlGpmSampleAlloc), ask(pynvml.nvmlGpmSampleAlloc)
    return None if newer is None or older is None else _SamplePair(newer, older)


def _compare(samples: _SamplePair) -> dict[str, float]:
    question = pynvml.c_nvmlGpmMetricsGet_t()
    question.version = pynvml.NVML_GPM_METRICS_GET_VERSION
    question.sample1, question.sample2 = samples.older, samples.newer
    question.numMetrics = len(METRICS)
    for position, metric in enumerate(METRICS.values()):
        question.metrics[position].metricId = metric
    if ask(pynvml.nvmlGpmMetricsGet, question) is None:
        return {}
    return {
        part: question.metrics[position].value / _PERCENT
        for position, part in enumerate(METRICS)
        if question.metrics[position].nvmlReturn == pynvml.NVML_SUCCESS
        and math.isfinite(question.metrics[position].value)
    }
