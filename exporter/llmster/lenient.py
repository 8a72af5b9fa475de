"""Decodes JSON from the daemon so that an invalid part costs only that part.

The strict msgspec decoder comes first, because nearly everything is well formed. What it refuses is read again by
Python's own parser and fitted field by field. Three kinds of oddity are known:

- half of a surrogate pair: JavaScript sends one for text that was cut inside an emoji, and msgspec accepts none;
- bytes that are not UTF-8;
- an optional field of another type than its schema says: it counts as not sent, and so does an entry of a list.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any, Final, TypeVar, get_args

import msgspec

UNDECODABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
"""All that decoding bytes from outside can raise: msgspec leaves bad UTF-8 and deep nesting to Python's own errors."""

S = TypeVar("S", bound=msgspec.Struct)

_ESCAPE: Final = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
"""One escape of a JSON text; `half` is a surrogate without its other half."""
_HALF: Final = re.compile("[\ud800-\udfff]")


def decode(data: bytes | str | msgspec.Raw, shape: type[S]) -> tuple[S, bool]:
    """Read `data` as `shape`; the second value tells whether something in it had to be left out or replaced.

    Raises msgspec.DecodeError (of UNDECODABLE) when it is no JSON object or a required field does not fit.
    """
    try:
        return msgspec.json.decode(data, type=shape), False
    except UNDECODABLE:
        return fitting(loads(data), shape), True


def loads(data: bytes | str | msgspec.Raw) -> Any:
    """Read any JSON text, with U+FFFD for what is no Unicode. Raises msgspec.DecodeError."""
    try:
        return json.loads(mended(data))
    except (ValueError, RecursionError) as error:
        raise msgspec.DecodeError(f"not JSON ({type(error).__name__})") from None


def fitting(values: Any, shape: type[S]) -> S:
    """Build `shape` from those of `values` that fit it, in structs inside it too. Raises msgspec.ValidationError.

    It raises when `values` is no object, and when a required field is missing or of another type.
    """
    if not isinstance(values, dict):
        raise msgspec.ValidationError(f"{shape.__name__}: not an object")
    kept: dict[str, Any] = {}
    for field in msgspec.structs.fields(shape):
        if field.encode_name not in values:
            if field.required:
                raise msgspec.ValidationError(f"{shape.__name__}.{field.encode_name}: missing")
            continue
        try:
            kept[field.name] = _fitted(values[field.encode_name], field.type)
        except (msgspec.ValidationError, OverflowError):
            if field.required:
                raise msgspec.ValidationError(f"{shape.__name__}.{field.encode_name}: another type") from None
    return shape(**kept)


def mended(data: bytes | str | msgspec.Raw) -> str:
    """Write U+FFFD for bytes that are not UTF-8 and for half of a surrogate pair, escaped or not.

    Without this, one such character in a prompt or a model's name would cost the whole event, or leave a call hanging.
    """
    text = data if isinstance(data, str) else bytes(data).decode("utf-8", "replace")
    return _HALF.sub("\ufffd", _ESCAPE.sub(lambda escape: "\\ufffd" if escape.lastgroup else escape[0], text))


def _fitted(value: Any, wanted: Any) -> Any:
    struct = next((each for each in (wanted, *get_args(wanted)) if _is_struct(each)), None)
    if struct is not None and isinstance(value, dict):
        return fitting(value, struct)
    if struct is not None and isinstance(value, list):
        return msgspec.convert(list(_entries(value, struct)), wanted)
    return msgspec.convert(value, wanted)


def _entries(values: list[Any], shape: type[S]) -> Iterator[S]:
    """Build the entries of a list that fit, and leave out the others."""
    for value in values:
        with contextlib.suppress(msgspec.ValidationError, OverflowError):
            yield fitting(value, shape)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)
