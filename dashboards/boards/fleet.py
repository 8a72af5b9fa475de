"""Fleet: do the cards have room, and are they healthy? Per GPU, and who holds its memory."""

from __future__ import annotations

from typing import Final

from dashboards.kit import panels, tables, theme
from dashboards.kit.board import DAEMON, NOTES, Board, row, section, source, values_of
from dashboards.kit.promql import (
    RANGE,
    Scope,
    count_by,
    max_by,
    share,
    sum_by,
)
from dashboards.kit.tables import Column
from dashboards.kit.targets import Query
from dashboards.rules.recording import CARD, HARM
from exporter.catalogue import Metric
from exporter.catalogue import hardware as h

HOST: Final = values_of(
    "host", "Machine", h.DEVICE_INFO, "instance", about="Machines to show: the exporter's address."
)
GPU: Final = values_of(
    "gpu", "GPU", h.DEVICE_INFO, "gpu", about="Cards to show, as nvidia-smi numbers them.", instance="=~$host"
)

_B: Final = Scope({"daemon": "$daemon", "gpu": "$gpu", "instance": "$host"})
_NAME: Final = "GPU {{gpu}} · {{instance}}"

_LOST = sum_by(_B.now(h.LOST))

_CARDS = panels.stat("Cards", "How many cards are there?", Query(count_by(_B.now(h.DEVICE_INFO))))
_SICK = panels.stat(
    "Lost cards",
    "Has a card fallen off the bus?",
    Query(_LOST),
    thresholds=theme.NONE_IS_WELL,
    no_value="No cards",
)
_FREE = panels.stat(
    "Free memory",
    "How much GPU memory is free, over all cards?",
    Query(sum_by(_B.now(h.MEMORY_FREE))),
)
_HOTTEST = panels.stat(
    "Hottest card",
    "How hot is the hottest card?",
    Query(max_by(_B.now(h.TEMPERATURE, sensor="gpu"))),
    thresholds=theme.steps(theme.WELL, (80, theme.ATTENTION), (90, theme.FAULT)),
)
_POWER = panels.stat("Power", "How much do all cards draw?", Query(sum_by(_B.now(h.POWER))), spark=True)
_SLOWED = panels.stat(
    "Slowed by heat or power fault",
    "How many cards run slower than they could, because of heat or a power fault?",
    Query(sum_by(max_by(_B.now(h.THROTTLE, reason=HARM), *CARD))),
    thresholds=theme.FEW_IS_WELL,
)

_TABLE = tables.table(
    "Cards",
    "How is each card?",
    Query(max_by(_B.now(h.DEVICE_INFO), *CARD, "name")),
    Query(
        share(max_by(_B.now(h.MEMORY_USED), *CARD), max_by(_B.now(h.MEMORY_TOTAL), *CARD)),
    ),
    Query(max_by(_B.now(h.MEMORY_FREE), *CARD)),
    Query(max_by(_B.now(h.UTILIZATION), *CARD)),
    Query(max_by(_B.now(h.TEMPERATURE, sensor="gpu"), *CARD)),
    Query(max_by(_B.now(h.POWER), *CARD)),
    Query(max_by(_B.now(h.LOST), *CARD)),
    columns=[
        Column("gpu", "GPU", width=60),
        Column("name", "Card"),
        Column("instance", "Machine"),
        Column("B", "Memory used", unit="percentunit", gauge_to=1),
        Column("C", "Free", unit="bytes"),
        Column("D", "Busy", unit="percentunit", gauge_to=1),
        Column("E", "Temperature", unit="celsius"),
        Column("F", "Power", unit="watt"),
        Column("G", "Health", mappings=theme.FAULTY),
    ],
)

_HELD = panels.series(
    "Who holds the memory",
    "Which model or foreign process holds how much of each card? The line without fill is all there is.",
    Query(
        sum_by(_B.now(h.INSTANCE_VRAM), *CARD, "instance_id"),
        "{{instance_id}} · GPU {{gpu}} · {{instance}}",
    ),
    Query(
        sum_by(_B.now(h.PROCESS_MEMORY, instance_id=""), *CARD, "process"),
        "{{process}} (no model) · GPU {{gpu}} · {{instance}}",
    ),
    Query(max_by(_B.now(h.MEMORY_RESERVED), *CARD), "driver · " + _NAME),
    Query(max_by(_B.now(h.MEMORY_FREE), *CARD), "free · " + _NAME),
    Query(max_by(_B.now(h.MEMORY_TOTAL), *CARD), "all of " + _NAME, alone=True),
    stack=True,
)
_ALLOCATION = panels.bars(
    "Models on cards",
    "How is each model shared out over the cards?",
    Query(sum_by(_B.now(h.INSTANCE_VRAM), "instance_id", *CARD), "{{instance_id}} · " + _NAME),
)
_LOOSE = panels.series(
    "Memory of the daemon without a model",
    "Does memory grow that belongs to no loaded model? That is a leak.",
    Query(sum_by(_B.now(h.UNATTRIBUTED_VRAM), "daemon", "gpu"), "{{daemon}} · GPU {{gpu}}"),
)
_PROCESSES = tables.table(
    "Processes",
    "Which processes hold GPU memory, ours and foreign?",
    Query(sum_by(_B.now(h.PROCESS_MEMORY), *CARD, "process", "pid", "instance_id")),
    columns=[
        Column("gpu", "GPU", width=60),
        Column("process", "Process"),
        Column("pid", "Pid"),
        Column("instance_id", "Model instance"),
        Column("instance", "Machine"),
        Column("A", "Memory", unit="bytes"),
    ],
    largest="Memory",
)
_MIG_MEMORY = panels.bars(
    "MIG partitions in use",
    "How full is each partition of a shared card?",
    Query(
        share(
            max_by(_B.now(h.MIG_MEMORY_USED), *CARD, "mig"),
            max_by(_B.now(h.MIG_MEMORY_TOTAL), *CARD, "mig"),
        ),
        "GPU {{gpu}} part {{mig}} · {{instance}}",
    ),
    thresholds=theme.FULL,
    high=1,
)
_MIG = tables.table(
    "MIG partitions",
    "Which partitions are there?",
    Query(max_by(_B.now(h.MIG_INFO), *CARD, "mig", "name", "uuid")),
    Query(max_by(_B.now(h.MIG_MEMORY_FREE), *CARD, "mig")),
    columns=[
        Column("gpu", "GPU", width=60),
        Column("mig", "Part"),
        Column("name", "Name"),
        Column("uuid", "UUID"),
        Column("B", "Free", unit="bytes"),
    ],
    no_value="No card is partitioned",
)


def _by_card(title: str, ask: str, metric: Metric, *, high: float | None = None) -> panels.Viz:
    return panels.series(title, ask, Query(max_by(_B.now(metric), *CARD), _NAME), high=high)


_BUSY = _by_card("Busy", "How much of the time does a kernel run?", h.UTILIZATION, high=1)
_MEMORY_BUSY = _by_card(
    "Memory busy",
    "How much of the time is memory read or written? Text generation lives here.",
    h.MEMORY_BUSY,
    high=1,
)
_VIDEO = panels.series(
    "Video units",
    "Does something encode or decode video on these cards?",
    Query(max_by(_B.now(h.ENCODER), *CARD), "encode · " + _NAME),
    Query(max_by(_B.now(h.DECODER), *CARD), "decode · " + _NAME),
    high=1,
)
_HEAT = panels.series(
    "Temperature and its limits",
    "How far is each card from slowing down?",
    Query(max_by(_B.now(h.TEMPERATURE), *CARD, "sensor"), "{{sensor}} · " + _NAME),
    Query(max_by(_B.now(h.TEMPERATURE_LIMIT, limit="slowdown"), *CARD), "slows down · " + _NAME),
)
_WATTS = panels.series(
    "Power and its limit",
    "Is a card held back by its power limit?",
    Query(max_by(_B.now(h.POWER), *CARD), _NAME),
    Query(max_by(_B.now(h.POWER_LIMIT), *CARD), "limit · " + _NAME),
)
_CLOCKS = panels.series(
    "Clocks, share of the highest",
    "Do the cards run as fast as they can?",
    Query(
        share(max_by(_B.now(h.CLOCK), *CARD, "clock"), max_by(_B.now(h.CLOCK_MAX), *CARD, "clock")),
        "{{clock}} · " + _NAME,
    ),
)
_THROTTLE = panels.timeline(
    "Held back by",
    "Why does a card run slower than it could? Idle is no fault.",
    Query(max_by(_B.now(h.THROTTLE), *CARD, "reason"), "{{reason}} · " + _NAME),
    mappings=theme.words(_0=("No", theme.SLATE), _1=("Yes", theme.ATTENTION)),
)
_FANS = panels.series(
    "Fans",
    "How fast are the fans driven?",
    Query(max_by(_B.now(h.FAN), *CARD, "fan"), "fan {{fan}} · " + _NAME),
)
_DEGRADED = max_by(_B.now(h.PCIE_WIDTH), *CARD) < max_by(_B.now(h.PCIE_WIDTH_MAX), *CARD)
_PCIE = tables.table(
    "PCIe links",
    "Does each card use all lanes of its slot? A lower generation at rest is normal.",
    Query(max_by(_B.now(h.PCIE_WIDTH), *CARD)),
    Query(max_by(_B.now(h.PCIE_WIDTH_MAX), *CARD)),
    Query(max_by(_B.now(h.PCIE_GENERATION), *CARD)),
    Query(max_by(_B.now(h.PCIE_GENERATION_MAX), *CARD)),
    columns=[
        Column("gpu", "GPU", width=60),
        Column("instance", "Machine"),
        Column("A", "Lanes"),
        Column("B", "Most"),
        Column("C", "Generation"),
        Column("D", "Highest"),
    ],
)
_NARROW = panels.stat(
    "Links with too few lanes",
    "How many cards use fewer PCIe lanes than they could?",
    Query(count_by(_DEGRADED)),
    thresholds=theme.FEW_IS_WELL,
    no_value="None",
)
_TRAFFIC = panels.series(
    "PCIe traffic",
    "How much goes over the bus? A model that spills into RAM shows here.",
    Query(max_by(_B.now(h.PCIE_THROUGHPUT), *CARD, "direction"), "{{direction}} · " + _NAME),
)
_NVLINK = panels.series(
    "NVLink traffic",
    "How much do the cards tell each other?",
    Query(sum_by(_B.rate(h.NVLINK_BYTES), *CARD, "direction"), "{{direction}} · " + _NAME),
)
_NVLINK_UP = panels.timeline(
    "NVLinks",
    "Is every link up?",
    Query(max_by(_B.now(h.NVLINK_ACTIVE), *CARD, "link"), "link {{link}} · " + _NAME),
    mappings=theme.UP_DOWN,
)
_ECC = panels.bars(
    "ECC and NVLink errors",
    "Did memory or links err in this time? Uncorrected errors end processes.",
    Query(sum_by(_B.increase(h.ECC_ERRORS, RANGE), *CARD, "kind"), "ECC {{kind}} · " + _NAME),
    Query(sum_by(_B.increase(h.NVLINK_ERRORS, RANGE), *CARD, "kind"), "NVLink {{kind}} · " + _NAME),
    thresholds=theme.FEW_IS_WELL,
)
_XID = panels.series(
    "XID errors",
    "Did the driver report a fault? The number says which; the runbook explains it.",
    Query(sum_by(_B.increase(h.XID_ERRORS), *CARD, "xid"), "XID {{xid}} · " + _NAME),
)
_ROWS = tables.table(
    "Replaced memory rows",
    "Is a card wearing out?",
    Query(sum_by(_B.now(h.REMAPPED_ROWS), *CARD)),
    Query(max_by(_B.now(h.REMAPPED_ROWS_PENDING), *CARD)),
    Query(max_by(_B.now(h.REMAPPED_ROWS_FAILED), *CARD)),
    columns=[
        Column("gpu", "GPU", width=60),
        Column("instance", "Machine"),
        Column("A", "Replaced"),
        Column("B", "Wants a reset", mappings=theme.RISK),
        Column("C", "To be replaced", mappings=theme.FAULTY),
    ],
    no_value="No such card",
)
_RAM = panels.series(
    "RAM of the machine",
    "Is the machine running out of RAM?",
    Query(max_by(_B.now(h.HOST_MEMORY_AVAILABLE), "daemon"), "available · {{daemon}}"),
    Query(max_by(_B.now(h.HOST_MEMORY_TOTAL), "daemon"), "all · {{daemon}}", alone=True),
)
_RESIDENT = panels.series(
    "RAM of the daemon",
    "Does the daemon, or one of its engines, grow without end?",
    Query(max_by(_B.now(h.PROCESS_RESIDENT), "daemon", "role", "pid"), "{{role}} {{pid}} · {{daemon}}"),
)
_CPU = panels.series(
    "Processor use",
    "How many processor cores do the daemon and its engines use? 100 % is one core.",
    Query(sum_by(_B.rate(h.PROCESS_CPU), "daemon", "role"), "{{role}} · {{daemon}}"),
)
_DRIVER = tables.table(
    "Drivers",
    "Which driver runs where, and are these cards real?",
    Query(max_by(_B.now(h.DRIVER_INFO), "instance", "vendor", "driver", "cuda", "source")),
    Query(max_by(_B.now(h.UP), "instance", "vendor")),
    columns=[
        Column("instance", "Machine"),
        Column("vendor", "Vendor"),
        Column("driver", "Driver"),
        Column("cuda", "CUDA"),
        Column("source", "Cards"),
        Column("B", "Answers", mappings=theme.UP_DOWN),
    ],
)

BOARD: Final = Board(
    name="Fleet",
    question="Do the cards have room, and are they healthy?",
    variables=(source("prometheus", "Prometheus"), HOST, GPU, DAEMON),
    notes=NOTES,
    answer=("Lost cards", "Free memory", "Hottest card", "Cards", "Who holds the memory"),
    sections=(
        section(
            "",
            row(4, (4, _CARDS), (4, _SICK), (4, _FREE), (4, _HOTTEST), (4, _POWER), (4, _SLOWED)),
            row(6, (24, _TABLE)),
            row(10, (16, _HELD), (8, _ALLOCATION)),
        ),
        section("Memory", row(8, (14, _PROCESSES), (10, _LOOSE)), row(6, (14, _MIG), (10, _MIG_MEMORY))),
        section("Work", row(8, (8, _BUSY), (8, _MEMORY_BUSY), (8, _VIDEO))),
        section(
            "Heat and power",
            row(9, (12, _HEAT), (12, _WATTS)),
            row(9, (8, _CLOCKS), (10, _THROTTLE), (6, _FANS)),
        ),
        section(
            "Links",
            row(7, (14, _PCIE), (4, _NARROW), (6, _NVLINK_UP)),
            row(8, (12, _TRAFFIC), (12, _NVLINK)),
        ),
        section("Faults", row(8, (8, _ECC), (8, _XID), (8, _ROWS))),
        section("Machine", row(8, (8, _RAM), (8, _RESIDENT), (8, _CPU)), row(5, (24, _DRIVER))),
    ),
)
