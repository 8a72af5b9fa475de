"""The closed sections of Fleet: processes, clocks and throttling, links, faults, MIG, host."""

from __future__ import annotations

from typing import Final

from dashboards.boards import common
from dashboards.kit import panels, plots, style, tables, theme
from dashboards.kit.board import row, section
from dashboards.kit.labels import hosted
from dashboards.kit.promql import RANGE, Selector, both, count_by, either, least, max_by, most, share, sum_by
from dashboards.kit.tables import Column
from dashboards.kit.targets import Query
from dashboards.rules.recording import GPU
from exporter.catalogue import Metric
from exporter.catalogue import hardware as h

_B: Final = Selector({"instance": "$host"})
_D: Final = Selector({"daemon": "$daemon"})
_NAME: Final = "{{host}} GPU {{gpu}}"


def _each(title: str, ask: str, metric: Metric, *, high: float | None = None) -> panels.Viz:
    """Draw one line per GPU."""
    return plots.series(
        title,
        ask,
        Query(hosted(max_by(_B.over("avg_over_time", metric, "$__rate_interval"), *GPU)), _NAME),
        high=high,
        overrides=style.GPUS,
        interval=plots.LEVEL_STEP,
    )


_PROCESSES = tables.table(
    "GPU processes",
    "Which processes hold VRAM, the daemon's and foreign ones?",
    Query(sum_by(_B.now(h.PROCESS_MEMORY), *GPU, "process", "pid", "instance_id")),
    columns=[
        Column("instance", "Host", width=130, mappings=theme.HOSTS),
        common.GPU_COLUMN,
        Column("process", "Process"),
        Column("pid", "PID", width=80),
        Column("instance_id", "Instance"),
        Column("A", "VRAM", unit="bytes", decimals=1, width=100),
    ],
    largest="VRAM",
)
_LOOSE = plots.series(
    "Unattributed VRAM",
    "Does VRAM of the daemon grow that belongs to no loaded model? That is a leak.",
    Query(sum_by(_D.now(h.UNATTRIBUTED_VRAM), "daemon", "gpu"), "{{daemon}} GPU {{gpu}}"),
    overrides=style.GPUS,
    interval=plots.LEVEL_STEP,
)
_MEMORY_BUSY = _each(
    "Memory busy",
    "How much of the time is VRAM read or written? Decoding is bound by it.",
    h.MEMORY_BUSY,
    high=1,
)
_CODEC = plots.series(
    "Encoder / decoder",
    "Does something encode or decode video on these GPUs?",
    Query(hosted(max_by(_B.now(h.ENCODER), *GPU)), "encoder " + _NAME),
    Query(hosted(max_by(_B.now(h.DECODER), *GPU)), "decoder " + _NAME),
    high=1,
    overrides=style.GPUS,
    interval=plots.LEVEL_STEP,
)
_CLOCKS = plots.series(
    "Clocks of maximum",
    "Do the GPUs run as fast as they can?",
    Query(
        hosted(
            share(max_by(_B.now(h.CLOCK, clock="sm"), *GPU), max_by(_B.now(h.CLOCK_MAX, clock="sm"), *GPU))
        ),
        "SM " + _NAME,
    ),
    Query(
        hosted(
            share(
                max_by(_B.now(h.CLOCK, clock="memory"), *GPU),
                max_by(_B.now(h.CLOCK_MAX, clock="memory"), *GPU),
            )
        ),
        "memory " + _NAME,
    ),
    high=1,
    overrides=style.GPUS,
    interval=plots.LEVEL_STEP,
)
_REASON: Final = (*GPU, "reason")
_THROTTLE = plots.timeline(
    "Throttle reasons",
    "Why are clocks below their maximum? Idle is no fault. Of many, the 10 that lasted longest.",
    Query(
        hosted(
            both(
                either(
                    max_by(_B.now(h.THROTTLE, reason="!=gpu_idle"), *_REASON),
                    max_by(_B.now(h.THROTTLE, reason="gpu_idle"), *_REASON) * 2,
                ),
                most(
                    10,
                    either(
                        max_by(_B.whole(h.THROTTLE, reason="!=gpu_idle"), *_REASON),
                        max_by(_B.whole(h.THROTTLE, reason="gpu_idle"), *_REASON) * 0,
                    ),
                ),
            )
        ),
        _NAME + " · {{reason}}",
    ),
    mappings=theme.THROTTLE_BANDS,
)
_FANS = plots.series(
    "Fan speed",
    "How fast are the fans driven?",
    Query(hosted(max_by(_B.now(h.FAN), *GPU, "fan")), _NAME + " fan {{fan}}"),
    overrides=style.GPUS,
    interval=plots.LEVEL_STEP,
)
_SENSORS = plots.series(
    "Temperature by sensor",
    "How hot are the GPU and its memory?",
    Query(hosted(max_by(_B.now(h.TEMPERATURE), *GPU, "sensor")), _NAME + " {{sensor}}"),
    overrides=style.GPUS,
    low=20,
    interval=plots.LEVEL_STEP,
)
_PCIE = tables.table(
    "PCIe links",
    "Does each GPU use all lanes of its slot? A lower generation at idle is normal.",
    Query(max_by(_B.now(h.PCIE_WIDTH), *GPU)),
    Query(max_by(_B.now(h.PCIE_WIDTH_MAX), *GPU)),
    Query(max_by(_B.now(h.PCIE_GENERATION), *GPU)),
    Query(max_by(_B.now(h.PCIE_GENERATION_MAX), *GPU)),
    columns=[
        common.HOST_COLUMN,
        common.GPU_COLUMN,
        Column("A", "Lanes", decimals=0),
        Column("B", "Max lanes", decimals=0),
        Column("C", "Generation", decimals=0),
        Column("D", "Max generation", decimals=0, width=125),
    ],
)
_DEGRADED = panels.counts(
    "Degraded PCIe links",
    "How many GPUs use fewer PCIe lanes than they could? A dash: links are not reported.",
    Query(
        either(
            count_by(max_by(_B.now(h.PCIE_WIDTH), *GPU) < max_by(_B.now(h.PCIE_WIDTH_MAX), *GPU)),
            count_by(max_by(_B.now(h.PCIE_WIDTH), *GPU)) * 0,
        ),
        "degraded",
    ),
    Query(count_by(max_by(_B.now(h.PCIE_WIDTH), *GPU)), "links"),
    marks={"degraded": theme.ANY_AMBER},
)
_TRAFFIC = plots.series(
    "PCIe throughput",
    "How much goes over the bus? A model that spills into RAM shows here.",
    Query(hosted(max_by(_B.now(h.PCIE_THROUGHPUT), *GPU, "direction")), _NAME + " {{direction}}"),
    overrides=style.GPUS,
    interval=plots.LEVEL_STEP,
)
_NVLINK = plots.series(
    "NVLink throughput",
    "How much do the GPUs exchange?",
    Query(hosted(sum_by(_B.rate(h.NVLINK_BYTES), *GPU, "direction")), _NAME + " {{direction}}"),
    overrides=style.GPUS,
)
_LINK: Final = (*GPU, "link")
_NVLINK_UP = plots.timeline(
    "NVLinks",
    "Is every link up? Of many, the 7 that were up the least.",
    Query(
        hosted(
            both(max_by(_B.now(h.NVLINK_ACTIVE), *_LINK), least(7, max_by(_B.whole(h.NVLINK_ACTIVE), *_LINK)))
        ),
        _NAME + " link {{link}}",
    ),
    mappings=theme.LINK_BANDS,
)
_ECC = tables.table(
    "ECC errors",
    "Did a GPU's memory have errors in this time? Uncorrected ones end processes.",
    Query(hosted(sum_by(_B.increase(h.ECC_ERRORS, RANGE), *GPU, "kind"))),
    columns=[
        Column("host", "Host"),
        common.GPU_COLUMN,
        Column("kind", "Kind"),
        Column("A", "Errors", decimals=0, width=80, thresholds=common.ANY_CELL),
    ],
    largest="Errors",
)
_NVLINK_ERRORS = plots.events(
    "NVLink errors",
    "Do links have errors?",
    Query(hosted(sum_by(_B.increase(h.NVLINK_ERRORS), *GPU, "kind")), _NAME + " {{kind}}"),
    shades=True,
)
_XID = plots.events(
    "XID errors",
    "Did the driver report a fault? The number says which; the runbook explains it.",
    Query(hosted(sum_by(_B.increase(h.XID_ERRORS), *GPU, "xid")), _NAME + " XID {{xid}}"),
    shades=True,
)
_ROWS = tables.table(
    "Remapped rows",
    "Is a GPU's memory wearing out?",
    Query(sum_by(_B.now(h.REMAPPED_ROWS), *GPU)),
    Query(max_by(_B.now(h.REMAPPED_ROWS_PENDING), *GPU)),
    Query(max_by(_B.now(h.REMAPPED_ROWS_FAILED), *GPU)),
    columns=[
        common.HOST_COLUMN,
        common.GPU_COLUMN,
        Column("A", "Remapped", decimals=0, width=90),
        Column("B", "Pending", width=80, mappings=theme.RISK),
        Column("C", "Failed", width=80, mappings=theme.FAULTY),
    ],
)
_MIG = tables.table(
    "MIG instances",
    "How full is each partition of a partitioned GPU?",
    Query(max_by(_B.now(h.MIG_INFO), *GPU, "mig", "name")),
    Query(
        share(max_by(_B.now(h.MIG_MEMORY_USED), *GPU, "mig"), max_by(_B.now(h.MIG_MEMORY_TOTAL), *GPU, "mig"))
    ),
    Query(max_by(_B.now(h.MIG_MEMORY_FREE), *GPU, "mig")),
    columns=[
        common.HOST_COLUMN,
        common.GPU_COLUMN,
        Column("mig", "MIG", width=60),
        Column("name", "Name"),
        Column("B", "VRAM used", unit="percentunit", decimals=0, gauge_to=1, thresholds=theme.VRAM),
        Column("C", "VRAM free", unit="bytes", decimals=1, width=100),
    ],
)
_RAM = plots.series(
    "Host memory",
    "Does the host run out of RAM? Dashed: all of it.",
    Query(
        max_by(_D.now(h.HOST_MEMORY_TOTAL), "daemon") - max_by(_D.now(h.HOST_MEMORY_AVAILABLE), "daemon"),
        "used {{daemon}}",
    ),
    Query(max_by(_D.now(h.HOST_MEMORY_TOTAL), "daemon"), "total {{daemon}}"),
    overrides=[
        style.matching(
            "^total.*",
            color=theme.fixed(theme.SLATE),
            custom__lineStyle={"fill": "dash", "dash": [8, 6]},
            custom__fillOpacity=0,
        )
    ],
    interval=plots.LEVEL_STEP,
)
_RESIDENT = plots.series(
    "Resident memory",
    "Does the daemon, or one of its engines, grow without end?",
    Query(max_by(_D.now(h.PROCESS_RESIDENT), "daemon", "role", "pid"), "{{daemon}} {{role}} {{pid}}"),
    shades=True,
    interval=plots.LEVEL_STEP,
)
_CPU = plots.series(
    "CPU cores",
    "How many cores do the daemon and its engines use?",
    Query(sum_by(_D.rate(h.PROCESS_CPU), "daemon", "role"), "{{daemon}} {{role}}"),
    unit="none",
    decimals=1,
    shades=True,
)
_DRIVER = tables.table(
    "Drivers",
    "Which driver runs where, and does it respond?",
    Query(max_by(_B.now(h.DRIVER_INFO), "instance", "vendor", "driver", "cuda", "source")),
    Query(max_by(_B.now(h.UP), "instance", "vendor")),
    columns=[
        common.HOST_COLUMN,
        Column("vendor", "Vendor"),
        Column("driver", "Driver"),
        Column("cuda", "CUDA"),
        Column("source", "Source"),
        Column("B", "State", width=80, mappings=theme.UP_DOWN),
    ],
)

_ACTIVITY = plots.series(
    "Activity by part",
    "Which part of each GPU works? SM occupancy and tensor activity tell what utilization hides.",
    Query(hosted(max_by(_B.now(h.ACTIVITY), *GPU, "part")), _NAME + " {{part}}"),
    high=1,
    overrides=style.GPUS,
    interval=plots.LEVEL_STEP,
    legend="right",
)

SECTIONS: Final = (
    section(
        "Processes and host",
        row(8, (14, _PROCESSES), (10, _RAM)),
        row(7, (8, _LOOSE), (8, _RESIDENT), (8, _CPU)),
    ),
    section(
        "Clocks and throttling", row(7, (24, _THROTTLE)), row(8, (8, _CLOCKS), (8, _FANS), (8, _SENSORS))
    ),
    section("Memory bus and codecs", row(8, (12, _MEMORY_BUSY), (12, _CODEC))),
    section(
        "Links (optional)",
        row(6, (13, _PCIE), (5, _DEGRADED), (6, _NVLINK_UP)),
        row(8, (12, _TRAFFIC), (12, _NVLINK)),
    ),
    section("Faults (optional)", row(7, (9, _ECC), (15, _XID)), row(7, (9, _ROWS), (15, _NVLINK_ERRORS))),
    section("Activity (optional: NVIDIA Hopper and newer)", row(8, (24, _ACTIVITY))),
    section("MIG (optional)", row(6, (24, _MIG))),
    section("Drivers", row(5, (24, _DRIVER))),
)
