"""Alerts about GPUs: memory, foreign processes, temperature, faults."""

from __future__ import annotations

from typing import Final

from dashboards.alerts.alert import CRITICAL, INFO, LITTLE_LEFT, MIB, WARNING, Alert
from dashboards.kit.promql import Expr, Selector, both, either, max_by, sum_by
from dashboards.rules import recording
from dashboards.rules.recording import GPU, THROTTLED
from exporter.catalogue import hardware as h

_P: Final = Selector(window="5m")
_AT_WORK: Final = 0.5
"""Busy enough that PCIe power saving is no excuse for a slow link."""

_GPU: Final = "GPU {{ $labels.gpu }} of {{ $labels.instance }}"


def _by_gpu(expr: Expr) -> Expr:
    return max_by(expr, *GPU)


MEMORY: Final = (
    Alert(
        "GpuMemoryNearlyFull",
        _by_gpu(_P.now(h.MEMORY_FREE)) / _by_gpu(_P.now(h.MEMORY_TOTAL)) < LITTLE_LEFT,
        WARNING,
        f"{_GPU} has {{{{ $value | humanizePercentage }}}} of its VRAM left: the next load or long context fails.",
        "10m",
    ),
    Alert(
        "GpuForeignProcess",
        both(
            recording.FOREIGN.series > 512 * MIB,
            sum_by(_P.now(h.INSTANCE_VRAM), *GPU) > 0,
        ),
        INFO,
        f"{_GPU}: foreign processes hold {{{{ $value | humanize1024 }}}}B of VRAM beside loaded models.",
        "10m",
    ),
    Alert(
        "GpuMemoryLeak",
        # A step is no leak: what grew within the hour must still be growing.
        both(
            both(
                _P.over("delta", h.UNATTRIBUTED_VRAM, "1h") > 256 * MIB,
                _P.over("delta", h.UNATTRIBUTED_VRAM, "15m") > 16 * MIB,
            ),
            _P.now(h.UNATTRIBUTED_VRAM) > 512 * MIB,
        ),
        WARNING,
        "Daemon {{ $labels.daemon }} holds {{ $value | humanize1024 }}B more on GPU {{ $labels.gpu }} than an hour "
        "ago, and no loaded model explains it.",
        "30m",
    ),
)

HEALTH: Final = (
    Alert(
        "GpuHot",
        _by_gpu(_P.now(h.TEMPERATURE, sensor="gpu"))
        > _by_gpu(_P.now(h.TEMPERATURE_LIMIT, limit="slowdown")) - 5,
        WARNING,
        f"{_GPU} is at {{{{ $value }}}} °C, within 5 °C of its slowdown limit.",
        "5m",
    ),
    Alert(
        "GpuThrottled",
        max_by(_P.now(h.THROTTLE, reason=THROTTLED), *GPU, "reason").equals(1),
        WARNING,
        f"{_GPU} is throttled: {{{{ $labels.reason }}}}.",
        "5m",
    ),
    Alert(
        "GpuXidError",
        _P.newly(h.XID_ERRORS, "10m"),
        WARNING,
        f"The driver reported XID {{{{ $labels.xid }}}} for {_GPU}.",
    ),
    Alert(
        "GpuEccUncorrected",
        sum_by(_P.increase(h.ECC_ERRORS, "1h", kind="uncorrected"), *GPU) > 0,
        CRITICAL,
        f"{_GPU} had uncorrected ECC errors: answers may be wrong and processes may die.",
    ),
    Alert(
        "GpuToBeReplaced",
        _by_gpu(_P.now(h.REMAPPED_ROWS_FAILED)).equals(1),
        CRITICAL,
        f"{_GPU} failed to remap memory rows: replace the GPU.",
    ),
    Alert(
        "GpuLost",
        _by_gpu(_P.now(h.LOST)).equals(1),
        CRITICAL,
        f"{_GPU} has fallen off the bus.",
        "1m",
    ),
    Alert(
        "GpuDriverSilent",
        max_by(_P.now(h.UP), "instance", "vendor").equals(0),
        CRITICAL,
        "The {{ $labels.vendor }} GPU driver of {{ $labels.instance }} does not answer.",
        "5m",
    ),
    Alert(
        "GpuPcieDowngraded",
        either(
            _by_gpu(_P.now(h.PCIE_WIDTH)) < _by_gpu(_P.now(h.PCIE_WIDTH_MAX)),
            both(
                _by_gpu(_P.now(h.PCIE_GENERATION)) < _by_gpu(_P.now(h.PCIE_GENERATION_MAX)),
                _by_gpu(_P.now(h.UTILIZATION)) > _AT_WORK,
            ),
        ),
        INFO,
        f"{_GPU} has a degraded PCIe link: fewer lanes, or a lower PCIe generation under load.",
        "15m",
    ),
)
