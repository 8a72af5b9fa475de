"""Pure: which fields a daemon's recorded answers lack, and what metrics and actions become without them.

Fields are written as in the catalogue: `call:path`, the call without its namespace, or the type of a log event.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, get_args

import msgspec

from actions.commands import engines, load_plan
from actions.commands.download import START, STATUS
from actions.commands.fit import Fit
from actions.commands.probe import CHAT
from actions.commands.reconciler import Reconciler
from actions.commands.registry import ACTIONS
from actions.domain.evidence import Evidence, Lack, lacking
from exporter.catalogue import CATALOGUE, Metric
from exporter.llmster import events
from exporter.llmster.commands import LoadMessage
from exporter.llmster.load_config import ConfigFields
from exporter.llmster.rest import RestModelStates
from exporter.llmster.rest_commands import ChatEvent, Download
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
from exporter.llmster.transfers import (
    DownloadMessage,
    DownloadOptions,
    FoundEngines,
    FoundModels,
    Selections,
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
    "loadModel": LoadMessage,
    "searchModels": FoundModels,
    "getModelDownloadOptions": DownloadOptions,
    "downloadModel": DownloadMessage,
    "getEngineSelections": Selections,
    "searchRuntimeExtensions": FoundEngines,
    "downloadRuntimeExtension": DownloadMessage,
    CHAT: ChatEvent,
    "GET /api/v0/models": RestModelStates,
    START: Download,
    STATUS: Download,
    **events.DATA_SHAPES,
}
"""What each call's answer, entry of its answer, or message of its channel is read into; of a log event its `data`."""

EVIDENCE: Final[Mapping[str, Evidence]] = {
    **{action.COMMAND.ACTION: action.EVIDENCE for action in ACTIONS},
    "preflight": load_plan.EVIDENCE,
    "fit": Fit.EVIDENCE,
    "engines": engines.EVIDENCE,
    "reconciler": Reconciler.EVIDENCE,
}
"""Of each action, by its name."""

CARRIED_BY: Final[Mapping[str, str]] = {
    "loadModel:info": "success",
    "downloadModel:defaultIdentifier": "success",
    f"{CHAT}:load_time_seconds": "model_load.end",
    f"{CHAT}:result": "chat.end",
}
"""Of channels and event streams: the type of message that has a field. Without one nothing is known of the field."""

NEEDED: Final = tuple(
    dict.fromkeys(
        (
            *(need for row in CATALOGUE for need in row.needs),
            *(field for evidence in EVIDENCE.values() for lack in evidence for field in lack.fields),
        )
    )
)
"""Every field that a metric or an action needs."""


def vanishing(fields: Collection[str]) -> tuple[Metric, ...]:
    """Name the metrics that vanish when these fields, and all that is inside them, are gone."""
    inside = tuple(f"{field}." for field in fields)
    return tuple(
        row for row in CATALOGUE if any(need in fields or need.startswith(inside) for need in row.needs)
    )


def impaired(fields: Collection[str]) -> dict[str, tuple[Lack, ...]]:
    """Tell what becomes of actions, by name and situation, when these fields, and all inside them, are gone."""
    found = {
        action: tuple(
            dict.fromkeys(
                lack
                for when in dict.fromkeys(("", *(lack.when for lack in evidence)))
                if (lack := lacking(evidence, fields, when)) is not None
            )
        )
        for action, evidence in EVIDENCE.items()
    }
    return {action: lacks for action, lacks in found.items() if lacks}


def missing(answers: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    """Name the needed fields that no recorded answer has in a type that can be read.

    A call without an answer, or whose lists are all empty, tells nothing: its fields are not named.
    """
    found: dict[str, set[str]] = {}
    unseen = dict(CARRIED_BY)
    for call, values in answers.items():
        for entry in _objects(list(values)) if call in SHAPES else ():
            found.setdefault(call, set()).update(_readable(call, entry))
            unseen = {
                field: kind
                for field, kind in unseen.items()
                if (call, entry.get("type")) != (field.rpartition(":")[0], kind)
            }
    split = ((need, *need.rsplit(":", 1)) for need in NEEDED)
    return tuple(
        need
        for need, call, path in split
        if call in found and path not in found[call] and not _is_inside(need, unseen)
    )


def _is_inside(field: str, others: Collection[str]) -> bool:
    """Tell whether a field is one of others, or inside one of them."""
    return field in others or field.startswith(tuple(f"{other}." for other in others))


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    """List the objects that a value is, or is lists of."""
    if isinstance(value, dict):
        yield value
    elif isinstance(value, list):
        for entry in value:
            yield from _objects(entry)


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
        struct = _struct_in(field.type)
        if struct is None:
            if _fits(inner, field.type):
                yield field.encode_name
            continue
        for entry in _objects(inner):
            yield field.encode_name
            yield from (f"{field.encode_name}.{path}" for path in _paths(entry, struct))


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    """Find the struct in a type: itself, optional, or of a list's entries or pairs."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    return next((found for each in get_args(kind) if (found := _struct_in(each)) is not None), None)


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True
