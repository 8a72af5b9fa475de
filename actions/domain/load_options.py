"""Options of a load as a set: what goes together, what they are on the wire, and whether an instance has them.

Pure. The options themselves are in load_keys.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from actions.domain.load_keys import AUTO_FIT, KEYS, SHORT_CACHE_TYPES, SPLIT, UNKNOWN, LoadKey
from exporter.llmster.commands import Namespace
from exporter.llmster.state import InstanceInfo

_SIDECARS: Final = tuple(
    f"llm.load.llama.speculativeDecoding.draft{kind}Sidecar" for kind in ("Dflash", "Dspark", "Mtp")
)
"""Switched off with any of the public draft selectors, so that no other drafter is inherited."""


@dataclass(frozen=True, slots=True)
class Invalid:
    """A combination of options that cannot be meant: the option, why, and the other option that is the reason."""

    parameter: str
    why: str
    other: str


def normal(given: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is not set, and write shorthands as what they stand for. Options set explicitly win."""
    options: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if name in KEYS and value is not None and value not in ([], ())
    }
    for name in [name for name in options if KEYS[name].sets]:
        value = str(options.pop(name))
        for target in KEYS[name].sets:
            options.setdefault(target, SHORT_CACHE_TYPES.get(value, value))
    if "disabled_gpus" in options:
        options["disabled_gpus"] = tuple(sorted(set(options["disabled_gpus"])))
    return {name: options[name] for name in KEYS if name in options}


def contradiction(options: Mapping[str, Any]) -> Invalid | None:
    """Find what the official SDK would refuse, too."""
    manual = next((name for name in options if KEYS[name].is_manual), "")
    get = options.get
    least, most = get("draft_min_tokens"), get("draft_max_tokens")
    checks: tuple[tuple[object, str, str, str], ...] = (
        (
            get("split") == "custom" and not any(get("gpu_ratio", ())),
            "gpu_ratio",
            "needs a share above 0, such as 2,1, with ",
            "split",
        ),
        (
            "gpu_ratio" in options and get("split") != "custom",
            "gpu_ratio",
            "needs the value custom of ",
            "split",
        ),
        (
            "gpu_priority" in options and get("split") != "priorityOrder",
            "gpu_priority",
            "needs the value priorityOrder of ",
            "split",
        ),
        (
            "gpu_priority" in options and "main_gpu" in options,
            "main_gpu",
            "is the first GPU of the other; leave out ",
            "gpu_priority",
        ),
        (get("auto_fit") and manual, "auto_fit", "does not go with the manual setting ", manual),
        (get("draft_mtp") and get("draft_simple"), "draft_simple", "does not go with ", "draft_mtp"),
        (get("draft_simple") and not get("draft_model"), "draft_model", "is required by ", "draft_simple"),
        (get("draft_model") and not get("draft_simple"), "draft_model", "needs ", "draft_simple"),
        (
            least is not None and most is not None and least > most,
            "draft_min_tokens",
            "is more than ",
            "draft_max_tokens",
        ),
    )
    found = next((check for check in checks if check[0]), None)
    return Invalid(*found[1:]) if found is not None else None


def wire_fields(options: Mapping[str, Any], namespace: Namespace) -> dict[str, Any]:
    """Write options as the load configuration's keys, as the official SDK does."""
    fields: dict[str, Any] = {}
    if namespace == "llm":
        manual = any(KEYS[name].is_manual for name in options)
        auto_fit = options.get("auto_fit", False if manual else None)
        if auto_fit is not None:
            fields |= dict.fromkeys(AUTO_FIT, auto_fit)
    for name, value in options.items():
        key = KEYS[name].llm if namespace == "llm" else KEYS[name].embedding
        if key is not None and name != "auto_fit":
            fields[key] = KEYS[name].encoded(value)
    if any(KEYS[name].part_of == SPLIT for name in options):
        fields[SPLIT] = split_config(options)
    if any(name in options for name in ("draft_mtp", "draft_simple", "draft_model")):
        fields |= dict.fromkeys(_SIDECARS, False)
    return fields


def split_config(options: Mapping[str, Any]) -> dict[str, Any]:
    """Write load.gpuSplitConfig."""
    priority = [options["main_gpu"]] if "main_gpu" in options else list(options.get("gpu_priority", ()))
    return {
        "strategy": options.get("split", "evenly"),
        "disabledGpus": list(options.get("disabled_gpus", ())),
        "priority": priority,
        "customRatio": list(options.get("gpu_ratio", ())),
    }


@dataclass(frozen=True, slots=True)
class Comparison:
    """In which options an instance is not what is asked for, and of which it is not known."""

    different: tuple[str, ...]
    unknown: tuple[str, ...]


def compared(options: Mapping[str, Any], info: InstanceInfo, config: Mapping[str, Any]) -> Comparison:
    """Compare options with a loaded instance and its configuration, by wire key.

    Configurations are partial: a missing key has the schema's default, and is unknown where that depends on the host.
    While autoFit may be on, a manual setting is a mere default, and what the instance has of it is unknown.
    """
    namespace: Namespace = "embedding" if info.type == "embedding" else "llm"
    settled = namespace == "embedding" or any(config.get(key) is False for key in AUTO_FIT)
    different: list[str] = []
    unknown: list[str] = []
    for name, wanted in options.items():
        key = KEYS[name]
        if name == "context_length":
            actual: Any = info.context_length if info.context_length is not None else UNKNOWN
            wanted = min(wanted, info.max_context_length or wanted)  # noqa: PLW2901 - the daemon cuts it, too
        elif name == "auto_fit":
            actual = next((config[one] for one in AUTO_FIT if one in config), UNKNOWN)
        elif key.is_manual and not settled:
            actual = UNKNOWN
        elif key.part_of == SPLIT:
            actual = config.get(SPLIT, split_config({}))
            wanted = split_config(options)  # noqa: PLW2901 - one key on the wire
        else:
            actual, wanted = _actual(key, namespace, config), key.encoded(wanted)  # noqa: PLW2901
        if actual is UNKNOWN:
            unknown.append(name)
        elif not _same(wanted, actual):
            different.append(name)
    return Comparison(tuple(different), tuple(unknown))


def _actual(key: LoadKey, namespace: Namespace, config: Mapping[str, Any]) -> Any:
    wire = key.llm if namespace == "llm" else key.embedding
    if wire is not None and config.get(wire) is not None:
        return config[wire]
    return UNKNOWN if key.default is UNKNOWN else key.encoded(key.default)


def _same(wanted: Any, actual: Any) -> bool:
    """Compare values: for a ratio "max" is 1 and "off" is 0; what is unchecked is equal whatever its value."""
    if isinstance(wanted, Mapping) and isinstance(actual, Mapping) and "checked" in wanted:
        if not wanted["checked"]:
            return not actual.get("checked", True)
        return bool(actual.get("checked") and wanted["value"] == actual.get("value"))
    numbers = {"max": 1.0, "off": 0.0}
    if isinstance(wanted, str | float | int) and isinstance(actual, str | float | int):
        return bool(numbers.get(str(wanted), wanted) == numbers.get(str(actual), actual))
    return bool(wanted == actual)
