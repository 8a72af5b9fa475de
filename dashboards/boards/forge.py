"""Forge: what is loaded, what could be, and the buttons to change it."""

from __future__ import annotations

from typing import Final

from dashboards.boards import common
from dashboards.kit import buttons, panels, plots, style, tables, theme
from dashboards.kit.board import NOTES, Board, row, section
from dashboards.kit.promql import (
    RANGE,
    Selector,
    both,
    coded,
    count_by,
    either,
    max_by,
    most,
    now,
    share,
    sum_by,
)
from dashboards.kit.tables import Column
from dashboards.kit.targets import ApiQuery, Query
from dashboards.kit.variables import DAEMON, MODEL, SITE, source
from exporter.catalogue import actions as a
from exporter.catalogue import daemon as d
from exporter.catalogue import engine as e
from exporter.catalogue import hardware as h
from exporter.catalogue import log_stream as s

_B: Final = Selector({"daemon": "$daemon", "model": "$model"})
_ONE: Final = ("daemon", "model", "instance_id")
_SOON_S: Final = 300

_LOADED: Final = count_by(_B.now(d.INSTANCE_INFO))
_COUNTS = panels.counts(
    "Instances",
    "How many instances are loaded, pinned, about to be unloaded, or duplicates?",
    Query(_LOADED, "loaded"),
    Query(sum_by(_B.now(d.PINNED)), "pinned"),
    Query(either(count_by(_B.now(d.TTL_REMAINING) < _SOON_S), _LOADED * 0), "TTL < 5 min"),
    Query(
        either(count_by(count_by(_B.now(d.INSTANCE_INFO), "daemon", "model", "device") > 1), _LOADED * 0),
        "duplicates",
    ),
    marks={"duplicates": theme.ANY_AMBER},
)
_BUSY = panels.stat(
    "Busy instances",
    "How many instances work right now?",
    Query(sum_by(_B.over("max_over_time", d.INSTANCE_STATE, "1m", state="!=idle")), "last minute"),
    decimals=0,
)
_HELD = panels.stat(
    "VRAM of models",
    "How much VRAM do all loaded models hold?",
    Query(sum_by(_B.now(h.INSTANCE_VRAM)), "measured"),
    decimals=1,
)
_OPERATING = panels.counts(
    "Operations",
    "How many operations are under way, how did others end, and how many requests did ejects end?",
    Query(sum_by(_B.now(a.OPERATIONS_IN_PROGRESS)), "in progress"),
    Query(sum_by(_B.increase(a.ACTIONS, RANGE, outcome="done")), "done"),
    Query(sum_by(_B.increase(a.ACTIONS, RANGE, outcome="=~failed|denied")), "failed or denied"),
    Query(sum_by(_B.increase(a.REQUESTS_ENDED, RANGE)), "requests cut off"),
    marks={"failed or denied": theme.ANY_AMBER, "requests cut off": theme.ANY_AMBER},
)

_INSTANCES = tables.table(
    "Instances",
    "What is loaded, what does it do, how long does it stay? Without a TTL left it is pinned.",
    Query(max_by(_B.now(d.INSTANCE_INFO), *_ONE)),
    Query(coded(_B, d.INSTANCE_STATE, theme.INSTANCE_STATES, *_ONE)),
    Query(max_by(_B.now(d.REQUESTS_RUNNING), *_ONE)),
    Query(max_by(_B.now(d.REQUESTS_WAITING), *_ONE)),
    Query(share(max_by(_B.now(d.TTL_REMAINING), *_ONE), max_by(_B.now(d.TTL), *_ONE))),
    Query(max_by(_B.now(d.TTL_REMAINING), *_ONE)),
    Query(sum_by(_B.now(h.INSTANCE_VRAM), *_ONE)),
    Query(share(sum_by(_B.now(h.INSTANCE_VRAM), *_ONE), max_by(_B.now(d.VRAM_ESTIMATE), *_ONE))),
    columns=[
        Column("instance_id", "Instance", link="daemonpulse-pulse?var-model=${__data.fields.model}"),
        Column("A", "Actions", width=230, buttons=(buttons.EJECT, buttons.PROBE)),
        Column("daemon", "Daemon", width=100),
        Column("B", "State", width=85, mappings=theme.INSTANCE_CELLS),
        Column("C", "Running", decimals=0, width=75),
        Column("D", "Waiting", decimals=0, width=75, thresholds=common.ANY_CELL),
        Column("F", "TTL left", unit="s", decimals=0, width=85),
        Column("G", "VRAM", unit="bytes", decimals=1, width=90),
        Column("H", "Of estimate", unit="percentunit", decimals=0, width=95),
        Column("model", "Model", width=190),
    ],
    largest="VRAM",
)
_INSTANCE: Final = ("daemon", "instance_id")
_STATES = plots.timeline(
    "Instance state",
    "When was each instance loaded, and what did it do? Of many, the 10 busiest.",
    Query(
        both(
            coded(_B, d.INSTANCE_STATE, theme.INSTANCE_STATES, *_INSTANCE),
            most(10, max_by(_B.whole(d.REQUESTS_RUNNING), *_INSTANCE)),
        ),
        "{{instance_id}}",
    ),
    mappings=theme.INSTANCE_BANDS,
    short_names=True,
)
_HISTORY = plots.events(
    "Loads and unloads",
    "What was loaded and unloaded, and why?",
    Query(sum_by(_B.increase(d.LOADS)), "load"),
    Query(sum_by(_B.increase(d.UNLOADS), "cause"), "unload: {{cause}}"),
    overrides=[
        style.line("load"),
        style.line("unload: ttl", theme.SLATE),
        style.line("unload: other", theme.DIM),
        style.line("unload: restart", theme.AMBER),
    ],
)

_MODELS = tables.table(
    "Models on disk",
    "What can be loaded? Context, TTL and parallel sessions are set at the top.",
    Query(max_by(_B.now(d.MODEL_INFO), "daemon", "model", "device", "type", "params", "quantization")),
    Query(max_by(_B.now(d.MODEL_SIZE), "daemon", "model", "device")),
    columns=[
        Column("model", "Model"),
        Column("A", "Actions", width=230, buttons=(buttons.LOAD, buttons.PROBE)),
        Column("daemon", "Daemon", width=100),
        Column("device", "Device", width=90),
        Column("type", "Type", width=90),
        Column("params", "Parameters", width=95),
        Column("quantization", "Quantization", width=110),
        Column("B", "Size", unit="bytes", decimals=1, width=90),
    ],
    largest="Size",
)
_SIZES = tables.table(
    "VRAM measured and estimated",
    "Does a model take what the daemon estimated before loading it?",
    Query(sum_by(_B.now(h.INSTANCE_VRAM), *_ONE)),
    Query(max_by(_B.now(d.VRAM_ESTIMATE), *_ONE)),
    Query(share(sum_by(_B.now(h.INSTANCE_VRAM), *_ONE), max_by(_B.now(d.VRAM_ESTIMATE), *_ONE))),
    columns=[
        Column("instance_id", "Instance"),
        Column("A", "Measured", unit="bytes", decimals=1, width=95),
        Column("B", "Estimated", unit="bytes", decimals=1, width=95),
        Column(
            "C",
            "Of estimate",
            unit="percentunit",
            decimals=0,
            gauge_to=1.5,
            thresholds=theme.steps(theme.INDIGO, (1.1, theme.AMBER)),
        ),
    ],
)
_SETTINGS = tables.table(
    "Load settings",
    "With which context, sessions, slots and GPU offload is each instance loaded? Below default: memory was short.",
    Query(max_by(_B.now(d.CONTEXT_LENGTH), *_ONE)),
    Query(max_by(_B.now(d.CONTEXT_BELOW_DEFAULT), *_ONE)),
    Query(max_by(_B.now(d.PARALLEL), *_ONE)),
    Query(either(max_by(_B.now(e.ENGINE_SLOTS), *_ONE), max_by(_B.now(s.SLOTS), *_ONE))),
    Query(max_by(_B.now(e.ENGINE_CONTEXT), *_ONE)),
    Query(max_by(_B.now(d.GPU_OFFLOAD), *_ONE)),
    Query((now() - max_by(_B.now(d.LAST_USED), *_ONE)).in_unit("seconds")),
    columns=[
        Column("instance_id", "Instance"),
        Column("A", "Context", decimals=0, width=85),
        Column("B", "Below default", width=110, mappings=theme.RISK),
        Column("C", "Parallel", decimals=0, width=80),
        Column("D", "Slots", decimals=0, width=65),
        Column("E", "Slot context", decimals=0, width=105),
        Column("F", "GPU offload", unit="percentunit", decimals=0, width=105),
        Column("G", "Idle for", unit="s", decimals=0, width=90),
    ],
)
_KILL = tables.table(
    "Kill switch",
    "Which daemon must eject everything? It asks once and does not wait for requests.",
    Query(max_by(_B.now(d.UP), "daemon")),
    Query(coded(_B, d.STATE, theme.DAEMON_STATES, "daemon")),
    columns=[
        common.DAEMON_COLUMN,
        Column("A", "Actions", width=130, buttons=(buttons.EJECT_ALL,)),
        Column("B", "State", width=85, mappings=theme.DAEMON_CELLS),
    ],
)
_OPERATIONS = tables.table(
    "Operations",
    "What became of the buttons that were pressed?",
    ApiQuery("operations"),
    columns=[
        Column("created_ms", "Started", unit="dateTimeFromNow", width=152),
        Column("id", "Actions", width=130, buttons=(buttons.CANCEL,)),
        Column("action", "Action", width=90),
        Column("subject", "Target"),
        Column("daemon", "Daemon", width=100),
        Column("person", "User", width=100),
        Column("state", "State", width=90),
        Column("progress", "Progress", unit="percentunit", gauge_to=1, width=116),
    ],
    largest="Started",
)
_TOOK = panels.bars(
    "Duration by action",
    "How long does each kind of action take? 95 % took at most this.",
    Query(_B.quantile(0.95, a.ACTION_DURATION, "action", window=RANGE), "{{action}}"),
)
_ACTIONS = plots.events(
    "Actions by outcome",
    "What was asked of the daemons, and was it done?",
    Query(sum_by(_B.increase(a.ACTIONS), "outcome"), "{{outcome}}"),
    overrides=style.colored(
        {"done": theme.INDIGO, "failed": theme.RED, "denied": theme.SLATE, "cancelled": theme.DIM}
    ),
)
_VERDICTS = panels.bars(
    "Pre-flight verdicts",
    "Which verdicts did pre-flights give?",
    Query(sum_by(_B.increase(a.PREFLIGHTS, RANGE), "verdict"), "{{verdict}}"),
    decimals=0,
)
_PROBED = tables.table(
    "Probes",
    "How fast was the last probe of each model?",
    Query(max_by(_B.now(a.PROBE_FIRST_TOKEN), "daemon", "model")),
    Query(max_by(_B.now(a.PROBE_REASONING), "daemon", "model")),
    Query(max_by(_B.now(a.PROBE_LOAD), "daemon", "model")),
    Query((now() - max_by(_B.now(a.PROBE_TIMESTAMP), "daemon", "model")).in_unit("seconds")),
    columns=[
        Column("model", "Model"),
        Column("A", "TTFT", unit="s", width=85),
        Column("B", "Reasoning", unit="s", width=90),
        Column("C", "Load", unit="s", width=85),
        Column("D", "Ago", unit="s", decimals=0, width=85),
    ],
)
_TYPES = panels.bars(
    "Models by type",
    "What kinds of models are on disk?",
    Query(sum_by(_B.now(d.MODELS), "type"), "{{type}}"),
    decimals=0,
)

BOARD: Final = Board(
    name="Forge",
    question="What is loaded, what could be, and how is it changed?",
    variables=(
        source("prometheus", "Prometheus"),
        source("actions", "Actions"),
        SITE,
        DAEMON,
        MODEL,
        *buttons.LOAD_FORM,
    ),
    notes=NOTES,
    answer=("Instances", "VRAM of models", "VRAM free", "Instance state"),
    sections=(
        section(
            "",
            row(
                5,
                (5, _COUNTS),
                (4, _BUSY),
                (5, _HELD),
                (5, common.vram_free_stat(Selector())),
                (5, _OPERATING),
            ),
            row(7, (24, _INSTANCES)),
            row(7, (15, _STATES), (9, _HISTORY)),
        ),
        section("Models on disk", row(10, (24, _MODELS))),
        section("Load settings and VRAM", row(7, (9, _SIZES), (15, _SETTINGS))),
        section(
            "Operations",
            row(8, (17, _OPERATIONS), (7, _KILL)),
            row(7, (9, _ACTIONS), (8, _TOOK), (7, _VERDICTS)),
        ),
        section("Probes and types", row(7, (15, _PROBED), (9, _TYPES))),
    ),
)
