"""Reads the security posture from the files of a local daemon's LM Studio home. Files only, no prompts.

Every part that cannot be read is None: absent, not "off".
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from exporter.llmster.lenient import UNDECODABLE
from exporter.shared import bounded_file
from exporter.shared.host_header import is_loopback

_MAX_FILE_BYTES: Final = 1024 * 1024
_MAX_LABEL: Final = 32
_MAX_SECONDS: Final = 1e9
_MAX_HISTORY_FILES: Final = 100_000
"""A history larger than this is measured up to here: a scrape must not walk a disk for minutes."""


@dataclass(frozen=True, slots=True)
class LocalPosture:
    """The posture in the daemon's files."""

    listens_beyond_loopback: bool | None
    sensitive_logging: bool | None
    jit_loading: bool | None
    guardrails: str | None
    prompt_history_bytes: int | None
    cors: bool | None = None
    log_incoming_tokens: bool | None = None
    load_anyway: bool | None = None
    """Whether a load that the guardrails refuse is done all the same, without asking."""
    jit_evicts: bool | None = None
    """Whether a model loaded by a request makes the one before it go."""
    jit_ttl_s: float | None = None
    """Idle time after which a model that a request loaded goes; None where it never does, or is not known."""
    default_context: int | str | None = None
    """Context a load gets that names none: tokens, or "max" for the model's own."""


def default_home(user_home: Path) -> Path:
    """Return the LM Studio home: where ~/.lmstudio-home-pointer points, else ~/.lmstudio."""
    try:
        pointed = bounded_file.read_text(user_home / ".lmstudio-home-pointer").strip()
    except (OSError, ValueError):
        pointed = ""
    return Path(pointed) if pointed else user_home / ".lmstudio"


def ports(home: Path) -> frozenset[int]:
    """Return the ports this home's daemon listens on: the user-facing one and the internal API's."""
    found = (
        _read(home / ".internal" / "http-server-config.json").get("port"),
        _read(home / ".internal" / "http-server.json").get("port"),
    )
    return frozenset(port for port in found if type(port) is int)


def read_posture(home: Path) -> LocalPosture:
    """Read the posture of the daemon that lives in `home`. Never raises."""
    server = _read(home / ".internal" / "http-server-config.json")
    settings = _read(home / "settings.json")
    interface = server.get("networkInterface")
    return LocalPosture(
        listens_beyond_loopback=not is_loopback(interface) if isinstance(interface, str) else None,
        sensitive_logging=_flag(server.get("logSensitiveData")),
        jit_loading=_flag(server.get("justInTimeModelLoading")),
        guardrails=_guardrail_mode(settings.get("modelLoadingGuardrails")),
        prompt_history_bytes=_size_of_tree(home / ".internal" / "api-prediction-history"),
        cors=_flag(server.get("cors")),
        log_incoming_tokens=_flag(server.get("logIncomingTokens")),
        load_anyway=_flag(_part(settings, "modelLoadingGuardrails").get("alwaysAllowLoadAnyway")),
        jit_evicts=_flag(_jit_setting(settings, "unloadPreviousJITModelOnLoad")),
        jit_ttl_s=_jit_ttl(_jit_setting(settings, "jitModelTTL")),
        default_context=_default_context(settings.get("defaultContextLength")),
    )


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object; whatever else is there reads as an empty one."""
    try:
        with path.open("rb") as file:
            value = msgspec.json.decode(file.read(_MAX_FILE_BYTES))
    except (OSError, ValueError, *UNDECODABLE):  # ValueError: a path with a NUL in it
        return {}
    return value if isinstance(value, dict) else {}


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _part(settings: dict[str, Any], key: str) -> dict[str, Any]:
    value = settings.get(key)
    return value if isinstance(value, dict) else {}


def _jit_setting(settings: dict[str, Any], key: str) -> object:
    """Observed in settings files users published: these keys are below `developer`."""
    return _part(settings, "developer").get(key, settings.get(key))


def _jit_ttl(value: object) -> float | None:
    """Observed: `{"enabled":true,"ttlSeconds":3600}`."""
    if not isinstance(value, dict) or value.get("enabled") is not True:
        return None
    seconds = value.get("ttlSeconds")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        return None
    return float(seconds) if 0 < seconds < _MAX_SECONDS else None


def _default_context(value: object) -> int | str | None:
    """Observed: `{"type":"custom","value":4096}`, `{"type":"max",...}`, or a number."""
    if isinstance(value, dict):
        if value.get("type") == "max":
            return "max"
        value = value.get("value")
    return value if type(value) is int and value > 0 else None


def _guardrail_mode(value: object) -> str | None:
    """Observed in settings files users published: `{"mode":"high","customThresholdBytes":n,...}`."""
    mode = value.get("mode") if isinstance(value, dict) else None
    return mode if isinstance(mode, str) and len(mode) <= _MAX_LABEL else None


def _size_of_tree(top: Path) -> int | None:
    try:
        return sum(_sizes(top)) if top.is_dir() else None
    except OSError:  # is_dir() raises it for a parent folder without permission
        return None


def _sizes(top: Path) -> Iterator[int]:
    seen = 0
    for folder, _, names in os.walk(top):
        for name in names:
            seen += 1
            if seen > _MAX_HISTORY_FILES:
                return
            try:
                yield (Path(folder) / name).lstat().st_size
            except OSError:
                continue
