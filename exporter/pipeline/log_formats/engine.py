"""Reads one line of llama-server (llama.cpp, tools/server). Does not know slots' states, only what a line says.

Source: output of llama-server b10434 and b11434 at verbosity 3 to 5, and lines in LM Studio bug reports 2001, 2006,
2011 and 1475. Every pattern is bounded and must match the whole line. A wording that is not known says nothing.
"""

from __future__ import annotations

import re
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
    """1 for a child, a further answer to the request that is about to be launched on the slot selected."""
    RELEASED = 3
    """n_tokens, truncated; both may be missing."""
    PROMPT = 4
    """Prompt progress: tokens processed so far, ratio, and in newer wordings tokens/s."""
    DECODE = 5
    """Generation: tokens so far, tokens/s on average, tokens/s in the last three seconds or None."""
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
    """The engine starts: slots, tokens of context per slot, true for a KV cache shared by all slots."""
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
    values: tuple[str | None, ...] = ()
    """Numbers, as digits; None for one that its wording lacks."""
    stamp_ms: int | None = None
    """Milliseconds since the engine started, where the line has the engine's own stamp."""

    def is_rest_of(self, cut: EngineLine) -> bool:
        """Whether this can be a line that was cut in the number of its task, and is whole now."""
        return (
            self.what is cut.what
            and self.stamp_ms == cut.stamp_ms is not None
            and self.task != cut.task
            and str(self.task).startswith(str(cut.task))
        )


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
_Rule = tuple[What, str]
_SLOT_RULES: Final = (
    (What.DECODE, rf"n_(?:gen|decoded) ={_N}, tg ={_X} t/s(?:, tg_3s ={_X} t/s)?"),
    (
        What.PROMPT,
        rf"prompt processing, n_tokens ={_N}, progress ={_X}, t = *[\d.]{{1,16}} s /{_X} tokens per second",
    ),
    (
        What.PROMPT,
        rf"prompt processing progress, n_\w{{1,16}} ={_N}, (?:n_tokens = +\d{{1,12}}, )?progress ={_X}",
    ),
    (What.LAUNCHED, r"processing task(?:, is_child = (\d))?"),
    (What.RELEASED, rf"stop processing: n_\w{{1,16}} ={_N}, truncated = (\d)"),
    (What.RELEASED, r"(?:stop|cancel|error) processing(?:\.{3})?"),
    (What.SELECTED, r"selected slot by [^\n]{1,200}"),
    (What.PROMPT_DONE, rf"prompt eval time ={_X} ms /{_N} tokens{_TIMES}"),
    (What.DECODE_DONE, rf" *eval time ={_X} ms /{_N} tokens{_TIMES}"),
    (
        What.PROMPT_SIZE,
        rf"new prompt, n_ctx_slot ={_N}, n_keep = -?\d{{1,12}}, (?:task\.n_tokens|n_prompt_tokens) ={_N}",
    ),
    (What.CACHED, rf"cached n_tokens ={_N}, memory_seq_rm \[[^\n]{{1,64}}"),
    (
        What.SHIFTED,
        rf"slot context shift, n_keep = -?\d{{1,12}}, n_left = -?\d{{1,12}}, n_discard ={_N}",
    ),
    (What.DRAFTED, _DRAFT),
)
_SRV_RULES: Final = (
    (What.ALL_IDLE, r"all slots are idle"),
    (
        What.STARTED,
        rf"initializing, n_slots ={_N}, n_ctx_slot ={_N}(?:, kv_unified = '(true|false)')?",
    ),
    (What.ENDED, r"(?:operator\(\): )?cleaning up before exit\.{3}"),
    (What.CONTEXT_EXCEEDED, rf"task id ={_N}, error: Context size has been exceeded\."),
    (
        What.TOO_LARGE,
        _TOO_LARGE,
    ),
    (What.TASK_FAILED, rf"task id ={_N}, error: [^\n]{{0,400}}"),
    (What.CANCELLED, rf"cancel task, id_task ={_N}"),
    (What.NOT_LAUNCHED, rf"failed to launch slot with task, id_task ={_N}"),
    (What.DEFERRED, rf"(?:no slot is available, |requested slot is unavailable, )?defer task, id_task ={_N}"),
    (What.HTTP, r"done request: [A-Z]{3,7} [^\n]{1,200} ([1-5]\d\d)"),
)
_BEGINNING: Final = re.compile(_NATIVE, re.ASCII)


_Places = dict[str, tuple[What, tuple[int, ...]]]


def _compiled(head: str, rules: tuple[_Rule, ...]) -> tuple[re.Pattern[str], _Places]:
    """Make one pattern of rules. An empty group at the end of each tells which matched, and where its numbers are."""
    marked = "|".join(f"{rule}(?P<rule{index}>)" for index, (_, rule) in enumerate(rules))
    pattern = re.compile(f"{_NATIVE}{head}(?:{marked}) *", re.ASCII)
    places: _Places = {}
    of_head = tuple(range(1, re.compile(_NATIVE + head).groups + 1))
    first = len(of_head) + 1
    for index, (what, rule) in enumerate(rules):
        last = first + re.compile(rule).groups
        places[f"rule{index}"] = (what, (*of_head, *range(first, last)))
        first = last + 1
    return pattern, places


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
MAX_SLOTS: Final = 512
"""Above any parallel setting; a line about a slot beyond it is not believed."""


def read(line: str) -> EngineLine | None:
    """Read one line, its server.log stamp aside; None for any other, however alike."""
    if len(line) > MAX_LINE_CHARS:
        return None
    match = _SLOT.fullmatch(line)
    if match is not None:
        what, places = _SLOT_PLACES[match.lastgroup or ""]
        groups = match.group(*places)
        stamp = groups[0]
        slot = int(groups[1])
        if slot >= MAX_SLOTS:
            return None
        return EngineLine(what, slot, int(groups[2]), groups[3:], _stamp_ms(stamp) if stamp else None)
    match = _SRV.fullmatch(line)
    if match is None:
        return None
    what, places = _SRV_PLACES[match.lastgroup or ""]
    stamp, *values = [match[place] for place in places]
    task = int(values.pop(0)) if what in _WITH_TASK else None
    return EngineLine(what, None, task, tuple(values), _stamp_ms(stamp) if stamp else None)


def is_harmless(line: str) -> bool:
    """Whether a line is the engine's own, whole, and holds nothing but numbers and the engine's words."""
    found = read(line)
    return found.what not in _WITH_TEXT if found is not None else _BARE_DRAFT.fullmatch(line) is not None


_FIRST_WORDS: Final = ("slot ", "srv ", "que ", "cmn ", "LlamaV4")
_MAX_WORD_CHARS: Final = 8
_MAX_STUMP_CHARS: Final = 24
_STUMP: Final = re.compile(
    r" ?(?:\d{0,6}|\d{1,6}\.\d{0,2}|\d{1,6}\.\d\d\.\d{0,3}|\d{1,6}\.\d\d\.\d{3}\.\d{0,3})|[DIWE] ?", re.ASCII
)
"""The beginning of a stamp, or a level without a stamp."""
_STAMP: Final = re.compile(r"(\d{1,6})\.\d\d\.\d{3}\.\d{3}(?= [DIWE] )", re.ASCII)


def is_stump(text: str) -> bool:
    """Whether a text can be the beginning of a stamp."""
    return len(text) <= _MAX_STUMP_CHARS and _STUMP.fullmatch(text) is not None


def stamp_at(text: str, join: int, last_ms: int) -> int | None:
    """Return where a line with a stamp begins in a text that was put together at `join`; None if none does there.

    The digits before a stamp may be the end of another line: the stamp nearest to the last one is taken.
    """
    found = None
    nearest = 0
    for match in _STAMP.finditer(text, max(0, join - _MAX_STUMP_CHARS), join + _MAX_STUMP_CHARS):
        minutes = match[1]
        for skipped, digit in enumerate(minutes):
            at = match.start() + skipped
            if at > join or (digit == "0" and skipped + 1 < len(minutes)):
                continue
            distance = abs(_stamp_ms(match[0][skipped:]) - last_ms)
            if found is None or distance < nearest:
                found, nearest = at, distance
    return found


def is_stamped(text: str) -> bool:
    """Whether a text begins with an engine's own stamp."""
    return _STAMP.match(text) is not None


def begins(text: str) -> bool:
    """Whether a text is the beginning of a line, and not the rest of one that was cut."""
    native = _BEGINNING.match(text)
    return native is not None and (native[1] is not None or text.startswith(_FIRST_WORDS, native.end()))


def may_begin(text: str) -> bool:
    """Whether a text can be the beginning of a line, or a part of one, be it half a stamp."""
    return (
        is_stump(text)
        or begins(text)
        or (len(text) < _MAX_WORD_CHARS and any(word.startswith(text) for word in _FIRST_WORDS))
    )


def _stamp_ms(stamp: str) -> int:
    minutes, seconds, milliseconds, _ = stamp.split(".")
    return (int(minutes) * 60 + int(seconds)) * 1000 + int(milliseconds)
