"""The theme of the boards: palette, colour and text of every state, units. One colour per meaning.

Slate and indigo on Grafana's dark and light theme. Amber is attention, red is "act now" and nothing else. A state
always has a text, never a colour alone.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from dashboards.kit.promql import QueryError

Json: TypeAlias = dict[str, Any]

TEXT: Final = "text"
"""Grafana's own colour of text in either theme: what needs no attention."""
CLEAR: Final = "transparent"

INDIGO: Final = "#6470EA"
SLATE: Final = "#7C8AA5"
DIM: Final = "#5B6880"
IDLE: Final = "rgba(124,138,165,0.15)"
VIOLET: Final = "#AB78E6"
SKY: Final = "#3A9BC9"
TEAL: Final = "#1F8A7C"
STEEL: Final = "#4F6D9E"
SAND: Final = "#8E7A5A"
AMBER: Final = "#CC8019"
RED: Final = "#E5484D"
AMBER_BACK: Final = "#F5B73D"
RED_BACK: Final = "#C7363B"
"""Backgrounds of cells: Grafana writes dark on this amber and white on this red."""

BUTTON: Final = "#3730a3"
"""Background of a button, whose text is white; that of a dangerous one is below."""
BUTTON_DANGER: Final = "#991b1b"

OUTCOMES: Final = {
    "stop": INDIGO, "tool_calls": TEAL, "length": AMBER, "abort": SLATE, "error": RED, "unknown": DIM,
}  # fmt: skip
PHASES: Final = {"Prefill": SKY, "Reasoning": VIOLET, "Answer": INDIGO, "Tool call": TEAL, "Queue": SLATE}
PERCENTILES: Final = {"p50": SLATE, "p95": INDIGO, "p99": VIOLET}
LEVELS: Final = {"debug": DIM, "info": SLATE, "warn": AMBER, "error": RED}
TOKENS: Final = {"prompt": SKY, "cached": SLATE, "answer": INDIGO, "reasoning": VIOLET}
CALLS: Final = {"done": INDIGO, "failed": RED, "refused": SLATE, "expired": AMBER, "cancelled": DIM}

FAMILIES: Final = (
    ("qwen|qwq", INDIGO),
    ("gpt-oss", TEAL),
    ("deepseek", VIOLET),
    ("gemma", SKY),
    ("llama", SAND),
    ("mistral|magistral|devstral|codestral", STEEL),
    ("embed|bge|nomic", SLATE),
)
"""A model's hue by the family in its name, never amber or red; models of one family differ by shade."""

HUES: Final = (INDIGO, TEAL, VIOLET, SKY, SAND, STEEL)
"""Hues for what has no meaning of its own."""

GPUS: Final = (INDIGO, TEAL, VIOLET, SKY, SAND, STEEL, SLATE, DIM)
"""A GPU's hue by its index; those of an index from 8 on begin again."""

_UNITS: Final = {
    "": "none",
    "seconds": "s",
    "bytes": "bytes",
    "ratio": "percentunit",
    "tokens": "short",
    "tokens_per_second": "tok/s",
    "tokens/s": "tok/s",
    "celsius": "celsius",
    "watts": "watt",
    "joules": "joule",
    "joules/s": "watt",
    "hertz": "hertz",
    "bytes_per_second": "binBps",
    "bytes/s": "binBps",
    "seconds/s": "percentunit",
    "/s": "cps",
}
"""Grafana's unit by the catalogue's; one that Grafana does not know is shown behind the number."""


def unit(base: str) -> str:
    """Give Grafana's unit for a catalogued one. Raises QueryError for one it does not know."""
    if base not in _UNITS:
        raise QueryError(f"unit {base!r} has no display; add it to dashboards/kit/theme.py")
    return _UNITS[base]


def fixed(color: str) -> Json:
    """Take one colour."""
    return {"mode": "fixed", "fixedColor": color}


def words(**states: tuple[str, str]) -> list[Json]:
    """Map values to words: `_1=("Running", SLATE)`; a leading _ is dropped, so that numbers can be keys."""
    return [
        {
            "type": "value",
            "options": {
                value.removeprefix("_"): {"text": text, "color": color, "index": index}
                for index, (value, (text, color)) in enumerate(states.items())
            },
        }
    ]


NAN_DASH: Final[list[Json]] = [
    {"type": "special", "options": {"match": "nan", "result": {"index": 0, "text": "\u2013"}}}
]
"""A division by zero is no number; its cell shows the text of an empty cell."""

# Cells: what is as it should be has no colour.
YES_NO: Final = words(_0=("No", CLEAR), _1=("Yes", CLEAR))
TRUE_FALSE: Final = words(false=("No", CLEAR), true=("Yes", AMBER_BACK))
UP_DOWN: Final = words(_0=("Down", RED_BACK), _1=("Up", CLEAR))
RISK: Final = words(_0=("No", CLEAR), _1=("Yes", AMBER_BACK))
GUARD: Final = words(_0=("No", AMBER_BACK), _1=("Yes", CLEAR))
FAULTY: Final = words(_0=("OK", CLEAR), _1=("Fault", RED_BACK))
GPU_CELLS: Final = words(_0=("OK", CLEAR), _1=("Throttled", AMBER_BACK), _2=("Lost", RED_BACK))
SEVERITIES: Final = words(
    critical=("critical", RED_BACK), warning=("warning", AMBER_BACK), info=("info", CLEAR)
)
DAEMON_STATES: Final = ("down", "stalled", "refused", "running")
DAEMON_CELLS: Final = words(
    _1=("Down", RED_BACK), _2=("Stalled", AMBER_BACK), _3=("Refused", AMBER_BACK), _4=("Running", CLEAR)
)
INSTANCE_STATES: Final = ("idle", "processing_prompt", "generating", "computing_embedding")
INSTANCE_CELLS: Final = words(
    _0=("Unknown", AMBER_BACK),  # a newer daemon may be in a state that none of these is
    _1=("Idle", CLEAR),
    _2=("Prefill", CLEAR),
    _3=("Decode", CLEAR),
    _4=("Embedding", CLEAR),
)

LINK_STATES: Final = ("offline", "starting", "online", "stopping")
LINK_CELLS: Final = words(
    _0=("Unknown", AMBER_BACK),
    _1=("Offline", CLEAR),
    _2=("Starting", CLEAR),
    _3=("Online", CLEAR),
    _4=("Stopping", CLEAR),
)

HOSTS: Final[list[Json]] = [
    {"type": "regex", "options": {"pattern": "^(.+):[0-9]+$", "result": {"index": 0, "text": "$1"}}}
]
"""Shows an instance without its port; links still carry the whole of it."""

# Bands of a timeline.
DAEMON_BANDS: Final = words(
    _1=("Down", RED), _2=("Stalled", AMBER), _3=("Refused", VIOLET), _4=("Running", SLATE)
)
INSTANCE_BANDS: Final = words(
    _0=("Unknown", AMBER),
    _1=("Idle", IDLE),
    _2=("Prefill", SKY),
    _3=("Decode", INDIGO),
    _4=("Embedding", STEEL),
)
SLOT_BANDS: Final = words(_0=("Idle", IDLE), _1=("Decode", INDIGO), _2=("Prefill", SKY))
LINK_BANDS: Final = words(_0=("Down", RED), _1=("Up", SLATE))
THROTTLE_BANDS: Final = words(_0=("Off", IDLE), _1=("Throttled", AMBER), _2=("Idle clocks", SLATE))


def steps(base: str, *marks: tuple[float, str]) -> Json:
    """Colour by thresholds: `steps(INDIGO, (0.9, AMBER), (0.97, RED))`."""
    return {
        "mode": "absolute",
        "steps": [
            {"value": None, "color": base},
            *({"value": value, "color": color} for value, color in marks),
        ],
    }


PLAIN: Final = steps(INDIGO)
QUIET: Final = steps(TEXT)
VRAM: Final = steps(INDIGO, (0.9, AMBER), (0.97, RED))
ANY_AMBER: Final = steps(TEXT, (1, AMBER))
ANY_RED: Final = steps(TEXT, (1, RED))
