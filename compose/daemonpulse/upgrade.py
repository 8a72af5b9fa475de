"""Pure: which fields that metrics need a daemon's recorded answers lack, and which metrics vanish without them.

Fields are written as in the catalogue: `call:path`, the call without its namespace, or the type of a log event.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, get_args

import msgspec

from exporter.catalogue import CATALOGUE, Metric
from exporter.llmster import events
from exporter.llmster.load_config import ConfigFields
from exporter.llmster.state import (
    DaemonProcess,
    DaemonVersion,
    DownloadedModel,
    Engine,
    Estimate,
    InstanceInfo,
    LinkStatus,
    ProcessingState,
)

SHAPES: Final[Mapping[str, type[msgspec.Struct]]] = {
    "version": DaemonVersion,
    "info": DaemonProcess,
    "listDownloadedModels": DownloadedModel,
    "listLoaded": InstanceInfo,
    "getInstanceProcessingState": ProcessingState,
    "getLoadConfig": ConfigFields,
    "estimateModelUsage": Estimate,
    "lmLinkStatus": LinkStatus,
    "listEngines": Engine,
    **events.DATA_SHAPES,
}
"""What each call's answer, or entry of its answer, is read into; of a log event its `data`."""

NEEDED: Final = tuple(dict.fromkeys(need for row in CATALOGUE for need in row.needs))


def vanishing(fields: Collection[str]) -> tuple[Metric, ...]:
    """Name the metrics that vanish when these fields, and all that is inside them, are gone."""
    inside = tuple(f"{field}." for field in fields)
    return tuple(
        row for row in CATALOGUE if any(need in fields or need.startswith(inside) for need in row.needs)
    )


def missing(answers: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    """Name the needed fields that no recorded answer has in a type that can be read.

    A call without an answer, or whose lists are all empty, tells nothing: its fields are not named.
    """
    found: dict[str, set[str]] = {}
    for call, values in answers.items():
        for entry in _entries(values) if call in SHAPES else ():
            found.setdefault(call, set()).update(_readable(call, entry))
    split = ((need, *need.split(":", 1)) for need in NEEDED)
    return tuple(need for need, call, path in split if call in found and path not in found[call])


def _entries(values: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    """List the objects that answers are, or are lists of."""
    for value in values:
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, dict):
                yield entry


def _readable(call: str, entry: Mapping[str, Any]) -> Iterator[str]:
    """List the paths of an answer's entry that hold what the exporter can read."""
    if call not in events.DATA_SHAPES:
        yield from _paths(entry, SHAPES[call])
        return
    if isinstance(entry.get("timestamp"), int | float):
        yield "timestamp"
    data = entry.get("data")
    if isinstance(data, dict):
        yield from (f"data.{path}" for path in _paths(data, SHAPES[call]))
        if data.get("type") == call:
            yield "data.type"


def _paths(value: Mapping[str, Any], shape: type[msgspec.Struct]) -> Iterator[str]:
    for field in msgspec.structs.fields(shape):
        if field.encode_name not in value:
            continue
        inner = value[field.encode_name]
        struct = next((each for each in (field.type, *get_args(field.type)) if _is_struct(each)), None)
        if struct is None:
            if _fits(inner, field.type):
                yield field.encode_name
            continue
        for entry in inner if isinstance(inner, list) else [inner]:
            if isinstance(entry, dict):
                yield field.encode_name
                yield from (f"{field.encode_name}.{path}" for path in _paths(entry, struct))


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True
