"""Catalogue: GPUs, host memory, and how much of them the daemon's models hold.

`gpu` is the index that the driver gives the GPU, as nvidia-smi shows it; `gpu_device_info` ties it to uuid and name.
A value that a GPU does not report is absent.
"""

from __future__ import annotations

from typing import Final

from exporter.catalogue.metric import counter, gauge, rows_of

_MEMORY: Final = "nvmlDeviceGetMemoryInfo_v2, else nvmlDeviceGetMemoryInfo; unified memory: /proc/meminfo"
_PROCESSES: Final = "nvmlDeviceGet{Compute,Graphics}RunningProcesses"
_MIG: Final = "nvmlDeviceGetMigDeviceHandleByIndex"
_NVLINK: Final = "nvmlDeviceGetNvLinkState"
_FIELDS: Final = "nvmlDeviceGetFieldValues"
_PROC: Final = "psutil"

# NVML itself ---------------------------------------------------------------------------------------------------------
UP = gauge(
    "gpu_driver_up",
    "Whether the vendor's GPUs could be read for this scrape; absent for a vendor without a driver or without GPUs.",
    "vendor",
    source="nvmlInit and every call after it; /sys/class/drm",
)
DRIVER_INFO = gauge(
    "gpu_driver_info",
    "Always 1. Driver version (the kernel's for AMD and Intel), the newest CUDA it runs, and what GPUs are read by: "
    "source is nvml, sysfs or simulated.",
    "vendor",
    "driver",
    "cuda",
    "source",
    source="nvmlSystemGetDriverVersion, nvmlSystemGetCudaDriverVersion_v2; uname",
)
XID_ERRORS = counter(
    "gpu_xid_errors_total",
    "XID errors the driver reported while it was watched, by number.",
    "gpu",
    "xid",
    source="nvmlEventSetWait_v2, nvmlEventTypeXidCriticalError",
)

LAST_XID = gauge(
    "gpu_last_xid",
    "Number of the last XID error the driver reported while it was watched; absent until there is one.",
    "gpu",
    source="nvmlEventSetWait_v2, nvmlEventTypeXidCriticalError",
)

# GPUs ----------------------------------------------------------------------------------------------------------------
DEVICE_INFO = gauge(
    "gpu_device_info",
    "Always 1. A GPU; vendor is nvidia, amd or intel; memory is dedicated, or unified when it shares the host's; "
    "source is nvml, sysfs or simulated.",
    "gpu",
    "uuid",
    "name",
    "pci_bus_id",
    "vendor",
    "memory",
    "source",
    source="nvmlDeviceGetUUID, nvmlDeviceGetName, nvmlDeviceGetPciInfo_v3; /sys/class/drm/card*/device",
)
LOST = gauge(
    "gpu_device_lost",
    "Whether the GPU has fallen off the bus or requires a reset; it has no other series then.",
    "gpu",
    source="NVML_ERROR_GPU_IS_LOST, NVML_ERROR_RESET_REQUIRED",
)
MEMORY_TOTAL = gauge("gpu_memory_total_bytes", "Memory of the GPU.", "gpu", source=_MEMORY, unit="bytes")
MEMORY_USED = gauge(
    "gpu_memory_used_bytes",
    "Memory that processes hold; contains the reserved part where the driver does not separate them.",
    "gpu",
    source=_MEMORY,
    unit="bytes",
)
MEMORY_FREE = gauge(
    "gpu_memory_free_bytes", "Memory that no process holds.", "gpu", source=_MEMORY, unit="bytes"
)
MEMORY_RESERVED = gauge(
    "gpu_memory_reserved_bytes",
    "Memory the driver and the firmware keep for themselves.",
    "gpu",
    source="nvmlDeviceGetMemoryInfo_v2",
    unit="bytes",
)
UTILIZATION = gauge(
    "gpu_utilization_ratio",
    "Share of the last sample in which a kernel ran, 0 to 1. Says nothing of how much of the GPU it used.",
    "gpu",
    source="nvmlDeviceGetUtilizationRates",
    unit="ratio",
)
MEMORY_BUSY = gauge(
    "gpu_memory_busy_ratio",
    "Share of the last sample in which memory was read or written, 0 to 1. Not how full it is.",
    "gpu",
    source="nvmlDeviceGetUtilizationRates",
    unit="ratio",
)
ACTIVITY = gauge(
    "gpu_activity_ratio",
    "How busy a part of the GPU was since the reading before, 0 to 1: graphics (any engine), sm, sm_occupancy, tensor, "
    "dram, fp64, fp32, fp16. NVIDIA Hopper and newer.",
    "gpu",
    "part",
    source="nvmlGpmMetricsGet",
    unit="ratio",
)
ENCODER = gauge(
    "gpu_encoder_utilization_ratio",
    "Share of the last sample in which the video encoder worked, 0 to 1.",
    "gpu",
    source="nvmlDeviceGetEncoderUtilization",
    unit="ratio",
)
DECODER = gauge(
    "gpu_decoder_utilization_ratio",
    "Share of the last sample in which the video decoder worked, 0 to 1.",
    "gpu",
    source="nvmlDeviceGetDecoderUtilization",
    unit="ratio",
)
TEMPERATURE = gauge(
    "gpu_temperature_celsius",
    "Temperature by sensor: gpu, memory.",
    "gpu",
    "sensor",
    source=f"nvmlDeviceGetTemperatureV; {_FIELDS} (memory)",
    unit="celsius",
)
TEMPERATURE_LIMIT = gauge(
    "gpu_temperature_limit_celsius",
    "Temperature at which the GPU acts: slowdown, shutdown, and the highest allowed for gpu and memory.",
    "gpu",
    "limit",
    source="nvmlDeviceGetTemperatureThreshold",
    unit="celsius",
)
POWER = gauge(
    "gpu_power_watts", "Power the GPU draws now.", "gpu", source="nvmlDeviceGetPowerUsage", unit="watts"
)
POWER_LIMIT = gauge(
    "gpu_power_limit_watts",
    "Power limit in force, the lowest of all that apply.",
    "gpu",
    source="nvmlDeviceGetEnforcedPowerLimit",
    unit="watts",
)
CLOCK = gauge(
    "gpu_clock_hertz",
    "Clock now: graphics, sm, memory, video.",
    "gpu",
    "clock",
    source="nvmlDeviceGetClockInfo",
    unit="hertz",
)
CLOCK_MAX = gauge(
    "gpu_clock_max_hertz",
    "Highest clock the GPU allows.",
    "gpu",
    "clock",
    source="nvmlDeviceGetMaxClockInfo",
    unit="hertz",
)
THROTTLE = gauge(
    "gpu_throttle_active",
    "Whether the clocks are held below their highest for this reason. gpu_idle is no fault.",
    "gpu",
    "reason",
    source="nvmlDeviceGetCurrentClocksEventReasons",
)
FAN = gauge(
    "gpu_fan_speed_ratio",
    "Speed each fan is driven at, of its full speed; may exceed 1.",
    "gpu",
    "fan",
    source="nvmlDeviceGetFanSpeed_v2",
    unit="ratio",
)

# PCIe and NVLink -----------------------------------------------------------------------------------------------------
PCIE_GENERATION = gauge(
    "gpu_pcie_link_generation",
    "PCIe generation the link runs at now; GPUs lower it when idle.",
    "gpu",
    source="nvmlDeviceGetCurrPcieLinkGeneration",
)
PCIE_GENERATION_MAX = gauge(
    "gpu_pcie_link_generation_max",
    "Highest PCIe generation that GPU and slot allow.",
    "gpu",
    source="nvmlDeviceGetMaxPcieLinkGeneration",
)
PCIE_WIDTH = gauge(
    "gpu_pcie_link_width", "PCIe lanes in use now.", "gpu", source="nvmlDeviceGetCurrPcieLinkWidth"
)
PCIE_WIDTH_MAX = gauge(
    "gpu_pcie_link_width_max",
    "Most PCIe lanes that GPU and slot allow.",
    "gpu",
    source="nvmlDeviceGetMaxPcieLinkWidth",
)
PCIE_THROUGHPUT = gauge(
    "gpu_pcie_throughput_bytes_per_second",
    "PCIe traffic over the 20 ms before this reading, as seen from the GPU: transmit leaves it.",
    "gpu",
    "direction",
    source="nvmlDeviceGetPcieThroughput",
    unit="bytes_per_second",
)
NVLINK_ACTIVE = gauge("gpu_nvlink_active", "Whether the link is up.", "gpu", "link", source=_NVLINK)
NVLINK_ERRORS = counter(
    "gpu_nvlink_errors_total",
    "Errors over all NVLinks of the GPU since the driver was loaded.",
    "gpu",
    "kind",
    source=_FIELDS,
)
NVLINK_BYTES = counter(
    "gpu_nvlink_bytes_total",
    "Data over all NVLinks of the GPU since the driver was loaded, protocol overhead excluded.",
    "gpu",
    "direction",
    source=_FIELDS,
    unit="bytes",
)

# Errors --------------------------------------------------------------------------------------------------------------
ECC_ERRORS = counter(
    "gpu_ecc_errors_total",
    "ECC errors in the GPU's lifetime by kind (corrected, uncorrected) and place; places do not overlap.",
    "gpu",
    "kind",
    "location",
    source="nvmlDeviceGetMemoryErrorCounter, nvmlDeviceGetTotalEccErrors",
)
REMAPPED_ROWS = gauge(
    "gpu_remapped_rows",
    "Memory rows replaced for good, by the kind of error that condemned them.",
    "gpu",
    "kind",
    source="nvmlDeviceGetRemappedRows",
)
REMAPPED_ROWS_PENDING = gauge(
    "gpu_remapped_rows_pending",
    "Whether a row waits to be remapped until the GPU is reset.",
    "gpu",
    source="nvmlDeviceGetRemappedRows",
)
REMAPPED_ROWS_FAILED = gauge(
    "gpu_remapped_rows_failed",
    "Whether a remapping has failed: the GPU is to be replaced.",
    "gpu",
    source="nvmlDeviceGetRemappedRows",
)

# MIG -----------------------------------------------------------------------------------------------------------------
MIG_ENABLED = gauge(
    "gpu_mig_enabled",
    "Whether the GPU is partitioned; absent where it cannot be.",
    "gpu",
    source="nvmlDeviceGetMigMode",
)
MIG_INFO = gauge(
    "gpu_mig_instance_info",
    "Always 1. A MIG instance of the GPU.",
    "gpu",
    "mig",
    "uuid",
    "name",
    "gpu_instance_id",
    "compute_instance_id",
    source=_MIG,
)
MIG_MEMORY_TOTAL = gauge(
    "gpu_mig_memory_total_bytes", "Memory of the MIG instance.", "gpu", "mig", source=_MIG, unit="bytes"
)
MIG_MEMORY_USED = gauge(
    "gpu_mig_memory_used_bytes", "Memory held in the MIG instance.", "gpu", "mig", source=_MIG, unit="bytes"
)
MIG_MEMORY_FREE = gauge(
    "gpu_mig_memory_free_bytes", "Memory free in the MIG instance.", "gpu", "mig", source=_MIG, unit="bytes"
)

# Who holds it --------------------------------------------------------------------------------------------------------
PROCESS_MEMORY = gauge(
    "gpu_process_memory_bytes",
    "GPU memory of a process: the daemon's (instance_id where it is settled), and the largest others of each GPU, "
    "the rest of them as process other.",
    "gpu",
    "pid",
    "process",
    "instance_id",
    source=_PROCESSES,
    unit="bytes",
)
INSTANCE_VRAM = gauge(
    "llmster_instance_vram_bytes",
    "GPU memory measured for the instance's engine on each GPU.",
    "daemon",
    "model",
    "instance_id",
    "gpu",
    source=f"{_PROCESSES}, tied to instances by runtime.log, command line and process tree",
    unit="bytes",
)
UNATTRIBUTED_VRAM = gauge(
    "llmster_vram_unattributed_bytes",
    "GPU memory of the daemon's processes that could not be tied to one instance.",
    "daemon",
    "gpu",
    source=_PROCESSES,
    unit="bytes",
)

# The host ------------------------------------------------------------------------------------------------------------
HOST_MEMORY_TOTAL = gauge(
    "llmster_host_memory_total_bytes",
    "RAM of the exporter's host, for each daemon taken to be on it: its URL is loopback, or its home is set.",
    "daemon",
    source=_PROC,
    unit="bytes",
)
HOST_MEMORY_AVAILABLE = gauge(
    "llmster_host_memory_available_bytes",
    "RAM of that host that could be given out without swapping.",
    "daemon",
    source=_PROC,
    unit="bytes",
)
PROCESS_RESIDENT = gauge(
    "llmster_process_resident_memory_bytes",
    "RAM of the daemon's process and of each engine it started.",
    "daemon",
    "role",
    "pid",
    source=_PROC,
    unit="bytes",
)
PROCESS_CPU = counter(
    "llmster_process_cpu_seconds_total",
    "CPU time, user and system, of the daemon's process and of each engine it started.",
    "daemon",
    "role",
    "pid",
    source=_PROC,
    unit="seconds",
)

ROWS = rows_of(globals())
