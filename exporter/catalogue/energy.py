"""Catalogue: the energy of the GPUs, and of the requests that ran on them.

Of each GPU, what the models used and what was used idle add up to the whole. Energy is shared at every moment evenly
among the requests that run on the GPU; see docs/ENERGY.md.
"""

from __future__ import annotations

from typing import Final

from exporter.catalogue.metric import counter, histogram, rows_of

_COUNTER: Final = "nvmlDeviceGetTotalEnergyConsumption; hwmon energy1_input; gpu_metrics of amdgpu"
_SHARED: Final = "energy of the GPUs, shared by the slots that engines log, else by running requests"
_JOULES: Final = (
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6,
)  # fmt: skip

GPU = counter(
    "gpu_energy_joules_total",
    "Energy the GPU has used. method is counter (its own, since the driver was loaded) or integrated (its power over "
    "time, since the exporter started).",
    "gpu", "method",
    source=f"{_COUNTER}; else power", unit="joules",
)  # fmt: skip
IDLE = counter(
    "gpu_energy_idle_joules_total",
    "Energy the GPU has used while no request of a daemon on this host ran on it, since the exporter started. "
    "Half a minute late.",
    "gpu",
    source=_SHARED, unit="joules",
)  # fmt: skip
MODEL = counter(
    "llmster_energy_joules_total",
    "Energy of the GPU that the model's requests have used, since the exporter started.",
    "daemon", "model", "gpu",
    source=_SHARED, unit="joules",
)  # fmt: skip
REQUEST = histogram(
    "llmster_request_energy_joules",
    "Energy per prediction, over all GPUs it ran on. Only predictions whose energy is known for all of their time.",
    "daemon", "model",
    source=_SHARED, unit="joules", buckets=_JOULES,
)  # fmt: skip
CLIENT = counter(
    "daemonpulse_tap_energy_joules_total",
    "Energy of the predictions that a client asked for through the tap.",
    "daemon", "client", "model",
    source=_SHARED, unit="joules",
)  # fmt: skip

ROWS = rows_of(globals())
