"""The options of one load as a set: their consistency, their wire fields, and whether an instance has them.

Pure. The options themselves are in load_keys.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from actions.domain.load_key import ARGUMENTS, MLX_KV, SPLIT, UNKNOWN, LoadKey
from actions.domain.load_keys import KEYS, SHORT_CACHE_TYPES
from exporter.llmster.commands import Namespace
from exporter.llmster.load_config import AUTO_FIT, PARALLEL_FORMATS
from exporter.llmster.state import InstanceInfo

_AUTO_FITS: Final = (*AUTO_FIT.values(), "llm.load.yuzu.autoFit")
"""Each engine's own key, all set alike; of yuzu no model format is known."""
_SIDECARS: Final = tuple(
    f"llm.load.llama.speculativeDecoding.draft{kind}Sidecar" for kind in ("Dflash", "Dspark", "Mtp")
)
"""Switched off with any of the public draft selectors, so that no other drafter is inherited."""


@dataclass(frozen=True, slots=True)
class Invalid:
    """An invalid combination of options: the option, the reason, and the conflicting option."""

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
        *(
            (
                name in options and get("mlx_kv_bits", "off") == "off",
                name,
                "needs a number of ",
                "mlx_kv_bits",
            )
            for name in ("mlx_kv_group_size", "mlx_kv_start")
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
            fields |= dict.fromkeys(_AUTO_FITS, auto_fit)
    for name, value in options.items():
        key = KEYS[name].wire(namespace)
        if key is not None and name != "auto_fit":
            fields[key] = _OBJECTS[key](options) if KEYS[name].is_part else KEYS[name].encoded(value)
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


def _mlx_kv_config(options: Mapping[str, Any]) -> dict[str, Any]:
    bits = options.get("mlx_kv_bits", "off")
    return {
        "enabled": bits != "off",
        "bits": 8 if bits == "off" else int(bits),
        "groupSize": int(options.get("mlx_kv_group_size", 64)),
        "quantizedStart": options.get("mlx_kv_start", 5000),
    }


def _arguments_config(options: Mapping[str, Any]) -> dict[str, Any]:
    pairs = [one.partition("=") for one in options.get("llama_arguments", ())]
    left_out = list(options.get("llama_arguments_left_out", ()))
    only = options.get("llama_arguments_only", False)
    return {
        "enabled": bool(pairs or left_out or only),
        "disabledParameters": left_out,
        "overrideParameters": [{"key": key, "value": value} for key, _, value in pairs],
        "excludeAllConfig": only,
    }


_OBJECTS: Final[Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    SPLIT: split_config,
    MLX_KV: _mlx_kv_config,
    ARGUMENTS: _arguments_config,
}
"""Wire keys whose value is an object made of several options; without any of them it is the schema's default."""


class Comparison(NamedTuple):
    """In which options an instance is not what is asked for, and of which it is not known."""

    different: tuple[str, ...]
    unknown: tuple[str, ...]


def compared(options: Mapping[str, Any], info: InstanceInfo, config: Mapping[str, Any]) -> Comparison:
    """Compare options with a loaded instance and its configuration, by wire key.

    Configurations are partial: a missing key has the schema's default, and is unknown where that depends on the host.
    While autoFit may be on, a manual setting is a mere default, and what the instance has of it is unknown. Each
    engine has its own autoFit: it is known where all that are told agree.
    """
    namespace: Namespace = "embedding" if info.type == "embedding" else "llm"
    fits = [config[key] for key in _AUTO_FITS if key in config]
    fit = fits[0] if fits and all(one is fits[0] for one in fits) else UNKNOWN
    settled = namespace == "embedding" or fit is False
    different: list[str] = []
    unknown: list[str] = []
    for name, wanted in options.items():
        key = KEYS[name]
        if name == "context_length":
            actual: Any = info.context_length if info.context_length is not None else UNKNOWN
            wanted = min(wanted, info.max_context_length or wanted)  # noqa: PLW2901 - the daemon cuts it, too
        elif name == "auto_fit":
            actual = fit
        elif name == "parallel" and (info.format or "").lower() not in PARALLEL_FORMATS:
            actual = config.get(str(key.llm), UNKNOWN)  # other engines have no such key, and no default
        elif key.is_manual and not settled:
            actual = UNKNOWN
        elif key.is_part:
            wire = str(key.wire(namespace))
            actual = config.get(wire, _OBJECTS[wire]({}))
            wanted = _OBJECTS[wire](options)  # noqa: PLW2901 - one key on the wire
        else:
            actual, wanted = _actual(key, namespace, config), key.encoded(wanted)  # noqa: PLW2901
        if actual is UNKNOWN:
            unknown.append(name)
        elif not _same(wanted, actual):
            different.append(name)
    return Comparison(tuple(different), tuple(unknown))


def _actual(key: LoadKey, namespace: Namespace, config: Mapping[str, Any]) -> Any:
    wire = key.wire(namespace)
    if wire is not None and config.get(wire) is not None:
        return config[wire]
    return UNKNOWN if key.default is UNKNOWN else key.encoded(key.default)


def _same(wanted: Any, actual: Any) -> bool:
    """Compare values: for a ratio "max" is 1 and "off" is 0; two keys that are switched off are equal."""
    if isinstance(wanted, Mapping) and isinstance(actual, Mapping):
        switch = next((name for name in ("checked", "enabled") if name in wanted), None)
        if switch is not None and not wanted[switch]:
            return not actual.get(switch, True)
    numbers = {"max": 1.0, "off": 0.0}
    if isinstance(wanted, str | float | int) and isinstance(actual, str | float | int):
        return bool(numbers.get(str(wanted), wanted) == numbers.get(str(actual), actual))
    return bool(wanted == actual)
