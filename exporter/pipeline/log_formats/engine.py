"""Reads one line of llama-server (llama.cpp, tools/server). Does not know slots' states, only what a line says.

Source: output of llama-server b10434 and b11434 at verbosity 3 to 5, and lines in LM Studio bug reports 2001, 2006,
2011 and 1475. Every pattern is bounded and must match the whole line. A wording that is not known says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import IntEnum
from typing import Final

import msgspec

MAX_LINE_CHARS: Final = 512
"""A longer line is not an engine's own."""

_NATIVE: Final = r" ?(?:(?P<stamp>\d{1,6}\.\d\d\.\d{3}\.\d{3}) )?(?:[DIWE] )?"
"""llama-server's stamp, minutes.seconds.milliseconds.microseconds since its start, and level. Either may be missing."""
_N: Final = r" *(\d{1,12})"
_X: Final = r" *(\d{1,9}(?:\.\d{1,9})?)"


class What(IntEnum):
    """What a line is about. The numbers are in `EngineLine.values`, in the order given here."""

    SELECTED = 1
    """A slot was chosen for the next launch: -."""
    LAUNCHED = 2
    RELEASED = 3
    """n_tokens, truncated; both may be missing."""
    PROMPT = 4
    """Prompt progress: tokens processed so far, ratio, tokens/s; the first and the last may be missing (-1)."""
    DECODE = 5
    """Generation: tokens so far, tokens/s."""
    PROMPT_DONE = 6
    """Prompt evaluated: milliseconds, tokens processed."""
    DECODE_DONE = 7
    """Generation finished: milliseconds, tokens generated."""
    PROMPT_SIZE = 8
    """A prompt begins: tokens of the prompt, tokens of context per slot."""
    CACHED = 9
    """Tokens of the prompt found in the cache."""
    SHIFTED = 10
    """The context was shifted: tokens discarded."""
    DRAFTED = 11
    """Draft tokens: accepted, generated."""
    ALL_IDLE = 12
    STARTED = 13
    """The engine starts: slots, tokens of context per slot, 1 for a KV cache shared by all slots."""
    ENDED = 14
    """The engine shuts down."""
    CONTEXT_EXCEEDED = 15
    """A running request failed for want of KV space."""
    TOO_LARGE = 16
    """A request was refused for its size: tokens, tokens of context."""
    TASK_FAILED = 17
    """A request failed in any other way."""
    CANCELLED = 18
    NOT_LAUNCHED = 19
    DEFERRED = 20
    """A request waits for a slot."""
    HTTP = 21
    """A request of the engine's own HTTP server was answered."""


class EngineLine(msgspec.Struct, frozen=True, gc=False):
    """What one line says."""

    what: What
    slot: int | None = None
    task: int | None = None
    values: tuple[float, ...] = ()
    stamp_ms: int | None = None
    """Milliseconds since the engine started, where the line has the engine's own stamp."""


_TIMES: Final = r"(?: \( *[\d.]+ ms per token, *[\d.]+ tokens per second\))?"

_DRAFT: Final = (
    rf"draft acceptance = [\d.]{{1,12}} \({_N} accepted /{_N} generated\)(?:, mean len = *[\d.]{{1,12}})?"
)
_BARE_DRAFT: Final = re.compile(_DRAFT, re.ASCII)
"""Observed without a slot before it, so it says whose it is no longer."""
_TOO_LARGE: Final = (
    rf"task id ={_N}, error: (?:the )?request \({_N} tokens\) exceeds the available context size \({_N} tokens\)"
    r"[^\n]{0,64}"
)
_Places = tuple[int, ...]
_Numbers = Callable[[re.Match[str], _Places], tuple[float, ...]]


def _all(match: re.Match[str], places: _Places) -> tuple[float, ...]:
    return tuple([float(match[place]) for place in places if match[place] is not None])


def _decode(match: re.Match[str], places: _Places) -> tuple[float, ...]:
    tokens, mean, recent = match.group(*places)
    return float(tokens), float(recent or mean)


def _prompt(match: re.Match[str], places: _Places) -> tuple[float, ...]:
    tokens, progress, rate = match.group(*places)
    return float(tokens), min(1.0, float(progress)), float(rate)


def _older_prompt(match: re.Match[str], places: _Places) -> tuple[float, ...]:
    tokens, progress = match.group(*places)
    return float(tokens), min(1.0, float(progress)), -1.0


def _started(match: re.Match[str], places: _Places) -> tuple[float, ...]:
    slots, context, unified = match.group(*places)
    return float(slots), float(context), float(unified == "true")


_Rule = tuple[What, _Numbers, str]
_SLOT_RULES: Final = (
    (What.DECODE, _decode, rf"n_(?:gen|decoded) ={_N}, tg ={_X} t/s(?:, tg_3s ={_X} t/s)?"),
    (
        What.PROMPT,
        _prompt,
        rf"prompt processing, n_tokens ={_N}, progress ={_X}, t = *[\d.]{{1,16}} s /{_X} tokens per second",
    ),
    (
        What.PROMPT,
        _prompt,
        rf"prompt processing progress, n_\w{{1,16}} ={_N}, (?:n_tokens = +\d{{1,12}}, )?progress ={_X}",
    ),
    (What.LAUNCHED, _all, r"processing task(?:, is_child = \d)?"),
    (What.RELEASED, _all, rf"stop processing: n_\w{{1,16}} ={_N}, truncated = (\d)"),
    (What.RELEASED, _all, r"(?:stop|cancel|error) processing(?:\.{3})?"),
    (What.SELECTED, _all, r"selected slot by [^\n]{1,200}"),
    (What.PROMPT_DONE, _all, rf"prompt eval time ={_X} ms /{_N} tokens{_TIMES}"),
    (What.DECODE_DONE, _all, rf" *eval time ={_X} ms /{_N} tokens{_TIMES}"),
    (
        What.PROMPT_SIZE,
        _all,
        rf"new prompt, n_ctx_slot ={_N}, n_keep = -?\d{{1,12}}, (?:task\.n_tokens|n_prompt_tokens) ={_N}",
    ),
    (What.CACHED, _all, rf"cached n_tokens ={_N}, memory_seq_rm \[[^\n]{{1,64}}"),
    (
        What.SHIFTED,
        _all,
        rf"slot context shift, n_keep = -?\d{{1,12}}, n_left = -?\d{{1,12}}, n_discard ={_N}",
    ),
    (What.DRAFTED, _all, _DRAFT),
)
_SRV_RULES: Final = (
    (What.ALL_IDLE, _all, r"all slots are idle"),
    (
        What.STARTED,
        _started,
        rf"initializing, n_slots ={_N}, n_ctx_slot ={_N}(?:, kv_unified = '(true|false)')?",
    ),
    (What.ENDED, _all, r"(?:operator\(\): )?cleaning up before exit\.{3}"),
    (What.CONTEXT_EXCEEDED, _all, rf"task id ={_N}, error: Context size has been exceeded\."),
    (
        What.TOO_LARGE,
        _all,
        _TOO_LARGE,
    ),
    (What.TASK_FAILED, _all, rf"task id ={_N}, error: [^\n]{{0,400}}"),
    (What.CANCELLED, _all, rf"cancel task, id_task ={_N}"),
    (What.NOT_LAUNCHED, _all, rf"failed to launch slot with task, id_task ={_N}"),
    (What.DEFERRED, _all, rf"(?:no slot is available, )?defer task, id_task ={_N}"),
    (What.HTTP, _all, r"done request: [A-Z]{3,7} [^\n]{1,200} ([1-5]\d\d)"),
)
_BEGINNING: Final = re.compile(_NATIVE, re.ASCII)


def _compiled(
    head: str, rules: tuple[_Rule, ...]
) -> tuple[re.Pattern[str], dict[str, tuple[What, _Places, _Numbers]]]:
    """Make one pattern of rules. An empty group at the end of each tells which matched, and where its numbers are."""
    marked = "|".join(f"{rule}(?P<rule{index}>)" for index, (_, _, rule) in enumerate(rules))
    pattern = re.compile(f"{_NATIVE}{head}(?:{marked}) *", re.ASCII)
    found: dict[str, tuple[What, _Places, _Numbers]] = {}
    first = re.compile(_NATIVE + head).groups + 1
    for index, (what, numbers, rule) in enumerate(rules):
        last = first + re.compile(rule).groups
        found[f"rule{index}"] = (what, tuple(range(first, last)), numbers)
        first = last + 1
    return pattern, found


_SLOT, _SLOT_PLACES = _compiled(
    r"slot +\w{1,32}(?:\(\))?: id +(\d{1,4}) \| task (-?\d{1,15}) \| +", _SLOT_RULES
)
_SRV, _SRV_PLACES = _compiled(r"srv +\w{1,32}(?:\(\))?: +", _SRV_RULES)
_WITH_TASK: Final = frozenset(
    {
        What.CONTEXT_EXCEEDED,
        What.TOO_LARGE,
        What.TASK_FAILED,
        What.CANCELLED,
        What.NOT_LAUNCHED,
        What.DEFERRED,
    }
)
_WITH_TEXT: Final = frozenset({What.TASK_FAILED, What.SELECTED, What.CACHED, What.HTTP, What.TOO_LARGE})
"""Their rules leave room for any text."""
_MAX_SLOT: Final = 512
"""Above any parallel setting; a line about a slot beyond it is not believed."""


def read(line: str) -> EngineLine | None:
    """Read one line, its server.log stamp aside; None for any other, however alike."""
    if len(line) > MAX_LINE_CHARS:
        return None
    match = _SLOT.fullmatch(line)
    if match is not None:
        what, places, numbers = _SLOT_PLACES[match.lastgroup or ""]
        stamp, digits, task = match.group(1, 2, 3)
        slot = int(digits)
        if slot >= _MAX_SLOT:
            return None
        values = numbers(match, places) if places else ()
        return EngineLine(what, slot, int(task), values, _stamp_ms(stamp) if stamp else None)
    match = _SRV.fullmatch(line)
    if match is None:
        return None
    what, places, numbers = _SRV_PLACES[match.lastgroup or ""]
    values = numbers(match, places)
    of_task = what in _WITH_TASK
    return EngineLine(
        what,
        None,
        int(values[0]) if of_task else None,
        values[1:] if of_task else values,
        _stamp_ms(match[1]) if match[1] else None,
    )


def is_harmless(line: str) -> bool:
    """Whether a line is the engine's own, whole, and holds nothing but numbers and the engine's words."""
    found = read(line)
    return found.what not in _WITH_TEXT if found is not None else _BARE_DRAFT.fullmatch(line) is not None


def may_begin(text: str) -> bool:
    """Whether a text can be the beginning of a line, and not the rest of one that was cut."""
    native = _BEGINNING.match(text)
    return native is not None and (native[1] is not None or text.startswith(("slot ", "srv "), native.end()))


def _stamp_ms(stamp: str) -> int:
    minutes, seconds, milliseconds, _ = stamp.split(".")
    return (int(minutes) * 60 + int(seconds)) * 1000 + int(milliseconds)
