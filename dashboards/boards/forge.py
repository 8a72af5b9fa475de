"""Forge: what is loaded, what could be, and the buttons to change it."""

from __future__ import annotations

from typing import Final

from dashboards.kit import buttons, panels, tables, theme
from dashboards.kit.board import DAEMON, MODEL, NOTES, Board, row, section, source
from dashboards.kit.promql import RANGE, Scope, coded, count_by, max_by, now, share, sum_by
from dashboards.kit.tables import Column
from dashboards.kit.targets import ApiQuery, Query
from exporter.catalogue import actions as a
from exporter.catalogue import daemon as d
from exporter.catalogue import hardware as h

_B: Final = Scope({"daemon": "$daemon", "model": "$model"})
_ONE: Final = ("daemon", "model", "instance_id")

_LOADED = panels.stat(
    "Loaded",
    "How many instances are in memory?",
    Query(count_by(_B.now(d.INSTANCE_INFO))),
    no_value="Nothing loaded",
)
_BUSY = panels.stat(
    "Busy",
    "How many instances work right now?",
    Query(count_by(_B.now(d.INSTANCE_STATE, state="!=idle").equals(1))),
    no_value="All idle",
)
_WAITING = panels.stat(
    "Waiting",
    "How many requests wait for a free session?",
    Query(sum_by(_B.now(d.REQUESTS_WAITING))),
    thresholds=theme.FEW_IS_WELL,
    no_value="Nothing loaded",
)
_PINNED = panels.stat(
    "Stay loaded",
    "How many instances stay until somebody ejects them?",
    Query(sum_by(_B.now(d.PINNED))),
    no_value="Nothing loaded",
)
_DOUBLES = panels.stat(
    "Loaded twice",
    "How many models are in memory more than once?",
    Query(count_by(count_by(_B.now(d.INSTANCE_INFO), "daemon", "model", "device") > 1)),
    thresholds=theme.FEW_IS_WELL,
    no_value="None",
)
_IN_MEMORY = panels.stat(
    "GPU memory of models",
    "How much GPU memory do all loaded models hold?",
    Query(sum_by(_B.now(h.INSTANCE_VRAM))),
    no_value="Not on a GPU",
)

_INSTANCES = tables.table(
    "Instances",
    "What is loaded, what does it do, and how long will it stay? Idle models without a countdown stay.",
    Query(max_by(_B.now(d.INSTANCE_INFO), *_ONE)),
    Query(coded(_B, d.INSTANCE_STATE, theme.INSTANCE_STATES, *_ONE)),
    Query(max_by(_B.now(d.REQUESTS_RUNNING), *_ONE)),
    Query(max_by(_B.now(d.REQUESTS_WAITING), *_ONE)),
    Query(max_by(_B.now(d.CONTEXT_LENGTH), *_ONE)),
    Query(max_by(_B.now(d.TTL_REMAINING), *_ONE)),
    Query(max_by(_B.now(d.PINNED), *_ONE)),
    Query(sum_by(_B.now(h.INSTANCE_VRAM), *_ONE)),
    Query(max_by(_B.now(d.GPU_OFFLOAD), *_ONE)),
    Query(max_by(_B.now(d.PARALLEL), *_ONE)),
    columns=[
        Column("instance_id", "Instance", width=240),
        Column("daemon", "Daemon"),
        Column("B", "State", mappings=theme.INSTANCE_WORDS),
        Column("C", "Running"),
        Column("D", "Waiting", thresholds=theme.FEW_IS_WELL),
        Column("J", "Sessions"),
        Column("E", "Context", unit="short"),
        Column("F", "Unloads in", unit="s"),
        Column("G", "Stays", mappings=theme.YES_NO),
        Column("H", "GPU memory", unit="bytes"),
        Column("I", "On GPU", unit="percentunit"),
        Column("model", "Model", link="daemonpulse-pulse?var-model=${__data.fields.model}"),
        Column("A", "Actions", width=240, buttons=(buttons.EJECT, buttons.PROBE)),
    ],
    no_value="Nothing loaded",
)
_KILL = tables.table(
    "Daemons",
    "Which daemon should let go of everything? The kill switch asks once and does not wait.",
    Query(max_by(_B.now(d.UP), "daemon")),
    Query(coded(_B, d.STATE, theme.DAEMON_STATES, "daemon")),
    columns=[
        Column("daemon", "Daemon"),
        Column("B", "State", mappings=theme.DAEMON_WORDS),
        Column("A", "Kill switch", buttons=(buttons.EJECT_ALL,)),
    ],
)
_OPERATIONS = tables.table(
    "Operations",
    "What became of the buttons that were pressed?",
    ApiQuery("operations"),
    columns=[
        Column("created_ms", "Begun", unit="dateTimeFromNow"),
        Column("action", "Action"),
        Column("subject", "Of"),
        Column("daemon", "Daemon"),
        Column("person", "Person"),
        Column("actor", "Token"),
        Column("state", "State"),
        Column("phase", "Phase"),
        Column("progress", "Progress", unit="percentunit", gauge_to=1),
        Column("id", "Actions", buttons=(buttons.CANCEL,)),
    ],
    largest="Begun",
    no_value="No operation yet",
)
_STATES = panels.timeline(
    "What instances do",
    "When did each instance read, write, or wait?",
    Query(coded(_B, d.INSTANCE_STATE, theme.INSTANCE_STATES, *_ONE), "{{instance_id}} · {{daemon}}"),
    mappings=theme.INSTANCE_WORDS,
)
_COMING_GOING = panels.series(
    "Loads and unloads",
    "What came and what went, and why?",
    Query(sum_by(_B.increase(d.LOADS), "model"), "loaded {{model}}"),
    Query(sum_by(_B.increase(d.UNLOADS), "model", "cause"), "unloaded {{model}} ({{cause}})"),
)
_COUNTDOWN = panels.series(
    "Idle time left",
    "When will each idle instance be unloaded?",
    Query(
        share(max_by(_B.now(d.TTL_REMAINING), *_ONE), max_by(_B.now(d.TTL), *_ONE)),
        "{{instance_id}} · {{daemon}}",
    ),
    high=1,
)
_MODELS = tables.table(
    "Models on disk",
    "What could be loaded?",
    Query(
        max_by(
            _B.now(d.MODEL_INFO),
            "daemon",
            "model",
            "device",
            "type",
            "params",
            "quantization",
            "architecture",
        )
    ),
    Query(max_by(_B.now(d.MODEL_SIZE), "daemon", "model", "device")),
    columns=[
        Column("model", "Model", width=300),
        Column("daemon", "Daemon"),
        Column("device", "Where"),
        Column("type", "Type"),
        Column("params", "Parameters"),
        Column("quantization", "Precision"),
        Column("architecture", "Family"),
        Column("B", "On disk", unit="bytes"),
        Column("A", "Actions", width=240, buttons=(buttons.LOAD, buttons.PROBE)),
    ],
    largest="On disk",
)
_SIZES = tables.table(
    "Memory, measured and estimated",
    "Does a model take what the daemon believes it takes? Its estimate decides what may be loaded.",
    Query(sum_by(_B.now(h.INSTANCE_VRAM), *_ONE)),
    Query(max_by(_B.now(d.VRAM_ESTIMATE), *_ONE)),
    Query(share(sum_by(_B.now(h.INSTANCE_VRAM), *_ONE), max_by(_B.now(d.VRAM_ESTIMATE), *_ONE))),
    columns=[
        Column("instance_id", "Instance"),
        Column("daemon", "Daemon"),
        Column("A", "Measured", unit="bytes"),
        Column("B", "Estimated", unit="bytes"),
        Column("C", "Measured of estimated", unit="percentunit"),
    ],
    no_value="Nothing on a GPU",
)
_TYPES = panels.bars(
    "Models by type", "What kinds of models are there?", Query(sum_by(_B.now(d.MODELS), "type"), "{{type}}")
)
_LAST_USED = panels.bars(
    "Idle for",
    "How long has each instance not been used?",
    Query((now() - max_by(_B.now(d.LAST_USED), *_ONE)).in_unit("seconds"), "{{instance_id}} · {{daemon}}"),
)
_ACTIONS = panels.series(
    "Actions by outcome",
    "What was asked of the daemons, and was it done?",
    Query(sum_by(_B.increase(a.ACTIONS), "action", "outcome"), "{{action}} {{outcome}}"),
)
_TOOK = panels.bars(
    "How long actions take",
    "How long does each kind of action take, for 95 of 100?",
    Query(_B.quantile(0.95, a.ACTION_DURATION, "action", window=RANGE), "{{action}}"),
)
_OPEN = panels.stat(
    "In progress",
    "How many operations are under way?",
    Query(sum_by(_B.now(a.OPERATIONS_IN_PROGRESS))),
    no_value="None",
)
_VERDICTS = panels.bars(
    "Pre-flight verdicts",
    "Would models have fitted, when somebody asked?",
    Query(sum_by(_B.increase(a.PREFLIGHTS, RANGE), "verdict"), "{{verdict}}"),
)
_PROBED = tables.table(
    "Probes",
    "How fast was the last canned chat with each model?",
    Query(max_by(_B.now(a.PROBE_FIRST_TOKEN), "daemon", "model")),
    Query(max_by(_B.now(a.PROBE_REASONING), "daemon", "model")),
    Query(max_by(_B.now(a.PROBE_LOAD), "daemon", "model")),
    Query((now() - max_by(_B.now(a.PROBE_TIMESTAMP), "daemon", "model")).in_unit("seconds")),
    columns=[
        Column("model", "Model"),
        Column("daemon", "Daemon"),
        Column("A", "First token", unit="s"),
        Column("B", "Reasoning", unit="s"),
        Column("C", "Load", unit="s"),
        Column("D", "Ago", unit="s"),
    ],
    no_value="No probe yet",
)

BOARD: Final = Board(
    name="Forge",
    question="What is loaded, what could be, and how do I change it?",
    variables=(source("prometheus", "Prometheus"), source("actions", "Actions"), DAEMON, MODEL),
    notes=NOTES,
    answer=("Loaded", "Busy", "Waiting", "Loaded twice", "Instances"),
    sections=(
        section(
            "",
            row(4, (4, _LOADED), (4, _BUSY), (4, _WAITING), (4, _PINNED), (4, _DOUBLES), (4, _IN_MEMORY)),
            row(8, (24, _INSTANCES)),
            row(8, (12, _STATES), (12, _COMING_GOING)),
        ),
        section(
            "Operations",
            row(8, (16, _OPERATIONS), (8, _KILL)),
            row(7, (8, _ACTIONS), (8, _TOOK), (4, _OPEN), (4, _VERDICTS)),
        ),
        section("On disk", row(10, (24, _MODELS)), row(8, (12, _SIZES), (12, _PROBED))),
        section("Idle", row(7, (10, _COUNTDOWN), (8, _LAST_USED), (6, _TYPES))),
    ),
)
