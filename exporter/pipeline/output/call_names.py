"""Finds the names of the tools called in a block, by the shape in which a family writes calls.

Names are generated text that ends up in labels: whatever does not look like a name becomes `unknown`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

HEAD_CHARS: Final = 16_384
"""How much of a block is looked at."""
UNKNOWN: Final = "unknown"
_MAX_CALLS: Final = 64
_PYTHON: Final = "python"
"""Assumed: the tool behind `<|python_tag|>` with bare code; Llama's template calls its environment ipython."""

NameReader = Callable[[str], list[str]]
"""Takes the beginning of a block, white space aside, and returns the names as written."""

_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ .:/-]{0,63}")
_FIRST_NAME: Final = re.compile(r'"(?:tool_)?name"\s{0,8}:\s{0,8}"([^"\\]{1,64})"')
_FUNCTION: Final = re.compile(r"<function=([^>\n]{1,64})>")
_INVOKE: Final = re.compile(r'invoke name="([^"\n]{1,64})"')
_CALL: Final = re.compile(r"call:([^{\s]{1,64})\{")
_KIMI: Final = re.compile(
    r"<\|tool_call_begin\|>\s{0,8}([^<\n]{1,80}?)(?::\d{1,6})?\s{0,8}<\|tool_call_argument_begin\|>"
)
_DEEPSEEK: Final = re.compile(r"<｜tool▁call▁begin｜>([^<\n]{1,64})<｜tool▁sep｜>([^<{\n]{0,64})")
_STEP: Final = re.compile(r"<｜tool_sep｜>\s{0,8}([^<\n{]{1,64})")
_SOLAR: Final = re.compile(r"<\|tool_call:name\|>\s{0,8}([^<\n]{1,64})")
_SEPARATED: Final = re.compile(r"<tool_call>\s{0,8}([^<\n]{1,64}?)\s{0,8}<tool_sep>")
_MCP: Final = re.compile(r"<tool_name>\s{0,8}([^<\n]{1,64}?)\s{0,8}</tool_name>")
_METHOD: Final = re.compile(r"\b([A-Za-z_]\w{0,63})\.call\(")
_WORD: Final = re.compile(r"[\w .:/-]{1,64}")
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][\w.]{0,63}")
_ARGUMENTS: Final = ("arguments", "parameters", "args")
_decoder: Final = json.JSONDecoder()


def plain_name(name: str) -> str:
    """Bound a generated tool name."""
    bare = name.strip()
    return bare if _PLAIN_NAME.fullmatch(bare) else UNKNOWN


def call_names(read: NameReader, head: str) -> tuple[str, ...]:
    """Return the tools called in a block that begins with `head`; at least one, if only an unknown one."""
    return tuple(plain_name(name) for name in read(head.strip())[:_MAX_CALLS]) or (UNKNOWN,)


def any_shape(text: str) -> list[str]:
    """Read a block whose shape is told by how it begins: JSON, `<function=name>`, `<invoke name="">` or a bare name."""
    if text[:1] in ("{", "["):
        return json_names(text)
    for pattern in (_FUNCTION, _INVOKE):
        if found := pattern.findall(text):
            return list(found)
    return word_name(text)


def json_names(text: str) -> list[str]:
    """Read JSON objects or lists of them, one after the other; a cut one still tells its name."""
    try:
        return _names_of(msgspec.json.decode(text))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    names: list[str] = []
    at = 0
    while at < len(text) and len(names) < _MAX_CALLS:
        if text[at] not in "{[":
            at += 1
            continue
        try:
            value, at = _decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return names + _FIRST_NAME.findall(text, at)[:1]
        names += _names_of(value)
    return names


def key_names(text: str) -> list[str]:
    """Read a JSON list of objects whose only key is the name (Apertus)."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return re.findall(r'\{\s{0,8}"([^"\\]{1,64})"\s{0,8}:', text)[:1]
    listed = value if isinstance(value, list) else [value]
    return [str(next(iter(one))) for one in listed if isinstance(one, dict) and one]


def word_name(text: str) -> list[str]:
    """Read a name that stands first."""
    match = _WORD.match(text)
    return [match.group()] if match else []


def function_name(text: str) -> list[str]:
    """Read what follows `<function=`."""
    return [text.partition(">")[0]]


def gemma_names(text: str) -> list[str]:
    """Read `call:name{...}`, of which a block holds one."""
    return list(_CALL.findall(text)[:1])


def python_tag_names(text: str) -> list[str]:
    """Read what follows `<|python_tag|>`: JSON, `name.call(...)`, or code."""
    return json_names(text) if text[:1] == "{" else list(_METHOD.findall(text)) or [_PYTHON]


def kimi_names(text: str) -> list[str]:
    """Read `functions.name:0<|tool_call_argument_begin|>{...}`, with or without the section's markers."""
    if not text.startswith("<|tool_call_begin|>"):
        text = "<|tool_call_begin|>" + text
    return [name.removeprefix("functions.") for name in _KIMI.findall(text)]


def deepseek_names(text: str) -> list[str]:
    """Read `function<｜tool▁sep｜>name` (V3) and `name<｜tool▁sep｜>{...}` (V3.1)."""
    if not text.startswith("<｜tool▁call▁begin｜>"):
        text = "<｜tool▁call▁begin｜>" + text
    return [second if first.strip() == "function" else first for first, second in _DEEPSEEK.findall(text)]


def step_names(text: str) -> list[str]:
    """Read Step 3: `<｜tool_sep｜>` before a name or an `<steptml:invoke name="">`."""
    return list(_INVOKE.findall(text)) or list(_STEP.findall(text))


def invoke_names(text: str) -> list[str]:
    """Read `<invoke name="...">` of any namespace."""
    return list(_INVOKE.findall(text))


def solar_names(text: str) -> list[str]:
    """Read `<|tool_call:name|>name`."""
    return list(_SOLAR.findall(text))


def pythonic_names(text: str) -> list[str]:
    """Read calls in Python's notation, in a list or line by line, whatever their arguments hold."""
    names: list[str] = []
    depth = at = 0
    quote = ""
    while at < len(text) and len(names) < _MAX_CALLS:
        char = text[at]
        if quote:
            at += 1 + (char == "\\")
            quote = "" if char == quote else quote
            continue
        if depth == 0 and (match := _IDENTIFIER.match(text, at)) is not None:
            at = match.end()
            if text[at : at + 1] == "(":
                names.append(match.group())
            continue
        if char in "\"'":
            quote = char
        elif char in "({":
            depth += 1
        elif char in ")}":
            depth = max(0, depth - 1)
        at += 1
    return names


def python_or_json_names(text: str) -> list[str]:
    """Read calls in Python's notation or, as the template allows too, in JSON."""
    return json_names(text) if re.match(r"\[?\s{0,8}\{", text) else pythonic_names(text)


def python_code(text: str) -> list[str]:
    """Read a list of calls in Python's notation; anything else is code."""
    return (pythonic_names(text) if text[:1] == "[" else []) or [_PYTHON]


def separated_names(text: str) -> list[str]:
    """Read the name before each `<tool_sep>`."""
    return list(_SEPARATED.findall(text))


def quoted_name(text: str) -> list[str]:
    """Read what precedes the closing quote."""
    return [text.partition('"')[0]]


def mcp_names(text: str) -> list[str]:
    """Read `<tool_name>name</tool_name>`."""
    return list(_MCP.findall(text)[:1])


def _names_of(value: Any) -> list[str]:
    names = []
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, dict):
            inner = one.get("function")
            inner = inner if isinstance(inner, dict) else one
            name = inner.get("name", inner.get("tool_name", one.get("tool")))
            if isinstance(name, str):
                names.append(name)
    return names


def call_arguments(block: str, tools: tuple[str, ...]) -> list[Any]:
    """Return the arguments of each call in a block: a JSON value where the block is JSON that names them.

    Else the block as it was written goes to the first call, and the others have "".
    """
    found: list[Any] = []
    at = block.find("{")
    while at >= 0 and len(found) < _MAX_CALLS:
        try:
            value, at = _decoder.raw_decode(block, at)
        except (ValueError, RecursionError):
            break
        inner = value.get("function") if isinstance(value, dict) else None
        call = inner if isinstance(inner, dict) else value
        found += [call[key] for key in _ARGUMENTS if isinstance(call, dict) and key in call][:1]
        at = block.find("{", at)
    if found and len(found) == len(tools):
        return found
    return [block.strip(), *[""] * (len(tools) - 1)]


class CallHead:
    """The first `HEAD_CHARS` characters of a block that passes by in pieces."""

    __slots__ = ("_pieces", "_room")

    def __init__(self, begins: str = "") -> None:
        self._pieces = [begins]
        self._room = HEAD_CHARS

    def add(self, text: str, start: int, stop: int) -> None:
        """Take what still fits of text[start:stop]."""
        if self._room:
            piece = text[start : min(stop, start + self._room)]
            self._pieces.append(piece)
            self._room -= len(piece)

    def names(self, read: NameReader) -> tuple[str, ...]:
        """Return the tools called in the block."""
        return call_names(read, "".join(self._pieces))
