"""Pure: turns the samples of one scrape, and the one before, into the rows of the screen.

A value that was not scraped is None and shown as a dash, never as 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from exporter.catalogue import daemon as d
from exporter.catalogue import hardware as h
from exporter.catalogue import log_stream as s

Sample = tuple[str, Mapping[str, str], float]
"""Name, labels and value."""

MAX_ROWS: Final = 500
"""Rows of a table at most; a screen is for reading."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. Bytes, ratios 0 to 1, degrees Celsius, watts."""

    index: str
    name: str
    used_bytes: float | None = None
    total_bytes: float | None = None
    models: tuple[tuple[str, float], ...] = ()
    """VRAM by model, largest first."""
    utilization: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    throttle: tuple[str, ...] = ()
    """Active throttle reasons."""
    is_lost: bool = False


@dataclass(frozen=True, slots=True)
class Instance:
    """One loaded instance."""

    daemon: str
    identifier: str
    model: str
    state: str | None = None
    running: float | None = None
    waiting: float | None = None
    slots: tuple[float | None, ...] = ()
    """Per busy slot the share of the prompt that is processed, 0 to 1, or None once it decodes."""
    slot_count: int | None = None
    tokens_per_second: float | None = None
    context_length: float | None = None
    ttl_left_s: float | None = None
    is_pinned: bool = False
    vram_bytes: float | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One request, running or finished. Seconds and tokens."""

    daemon: str
    model: str
    client: str | None
    phase: str
    """Phase of a running request, finish reason of a finished one."""
    is_running: bool
    elapsed_s: float | None
    ttft_s: float | None
    tokens_per_second: float | None
    prompt_tokens: int | None
    output_tokens: int | None
    reasoning_share: float | None


@dataclass(frozen=True, slots=True)
class Daemon:
    """One daemon."""

    name: str
    state: str
    version: str | None = None
    tokens_per_second: float | None = None
    """Of all its finished predictions, between the two scrapes."""


@dataclass(frozen=True, slots=True)
class Screen:
    """Everything that one refresh shows."""

    daemons: tuple[Daemon, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    instances: tuple[Instance, ...] = ()
    requests: tuple[Request, ...] = ()
    log_messages: Mapping[str, float] = field(default_factory=dict)
    """Lines of the daemons' server log by level, since the exporter started."""


class _Scrape:
    """Samples by name, with look-ups by labels."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._by_name: dict[str, list[tuple[Mapping[str, str], float]]] = defaultdict(list)
        for name, labels, value in samples:
            self._by_name[name].append((labels, value))

    def rows(self, name: str) -> Sequence[tuple[Mapping[str, str], float]]:
        return self._by_name.get(name, ())

    def by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Sum a metric by some of its labels."""
        found: dict[tuple[str, ...], float] = {}
        for given, value in self.rows(name):
            key = tuple(given.get(label, "") for label in labels)
            found[key] = found.get(key, 0.0) + value
        return found

    def active(self, name: str, label: str, *labels: str) -> dict[tuple[str, ...], list[str]]:
        """List the values of `label` whose sample is 1, by some other labels."""
        found: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for given, value in self.rows(name):
            if value == 1:
                found[tuple(given.get(one, "") for one in labels)].append(given.get(label, ""))
        return found


def screen_of(
    samples: Iterable[Sample],
    *,
    before: Iterable[Sample] = (),
    elapsed_s: float = 0.0,
    live: Mapping[str, Any] | None = None,
) -> Screen:
    """Build the screen. `before` are the samples of `elapsed_s` seconds ago; `live` is the answer of /live."""
    now = _Scrape(samples)
    return Screen(
        daemons=_daemons(now, _Scrape(before), elapsed_s),
        gpus=_gpus(now),
        instances=_instances(now),
        requests=_requests(live or {}),
        log_messages={level: value for (level,), value in now.by(s.SERVER_MESSAGES.name, "level").items()},
    )


def _daemons(now: _Scrape, before: _Scrape, elapsed_s: float) -> tuple[Daemon, ...]:
    states = now.active(d.STATE.name, "state", "daemon")
    versions = {labels["daemon"]: labels.get("version") for labels, _ in now.rows(d.BUILD_INFO.name)}
    written, earlier = (scrape.by(s.GENERATION_TOKENS.name, "daemon") for scrape in (now, before))

    def rate(name: str) -> float | None:
        if elapsed_s <= 0 or (name,) not in written or (name,) not in earlier:
            return None
        return max(0.0, written[(name,)] - earlier[(name,)]) / elapsed_s

    names = sorted(labels["daemon"] for labels, _ in now.rows(d.UP.name))
    return tuple(
        Daemon(name, next(iter(states.get((name,), ())), "unknown"), versions.get(name), rate(name))
        for name in names
    )


def _gpus(now: _Scrape) -> tuple[Gpu, ...]:
    def one(name: str, **labels: str) -> Callable[[str], float | None]:
        values = {
            given.get("gpu", ""): value
            for given, value in now.rows(name)
            if all(given.get(label) == wanted for label, wanted in labels.items())
        }
        return values.get

    used, total, utilization = (one(row.name) for row in (h.MEMORY_USED, h.MEMORY_TOTAL, h.UTILIZATION))
    temperature, power, limit = (
        one(h.TEMPERATURE.name, sensor="gpu"),
        one(h.POWER.name),
        one(h.POWER_LIMIT.name),
    )
    throttle = now.active(h.THROTTLE.name, "reason", "gpu")
    lost = {given["gpu"] for given, value in now.rows(h.LOST.name) if value == 1}
    models: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for (gpu, model), size in now.by(h.INSTANCE_VRAM.name, "gpu", "model").items():
        models[gpu].append((model, size))
    names = {given["gpu"]: given.get("name", "") for given, _ in now.rows(h.DEVICE_INFO.name)}
    return tuple(
        Gpu(
            index=gpu,
            name=names.get(gpu, ""),
            used_bytes=used(gpu),
            total_bytes=total(gpu),
            models=tuple(sorted(models[gpu], key=lambda item: -item[1])),
            utilization=utilization(gpu),
            temperature_c=temperature(gpu),
            power_w=power(gpu),
            power_limit_w=limit(gpu),
            throttle=tuple(sorted(reason for reason in throttle.get((gpu,), ()) if reason != "gpu_idle")),
            is_lost=gpu in lost,
        )
        for gpu in sorted(names.keys() | lost, key=_natural)
    )[:MAX_ROWS]


def _natural(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isascii() and text.isdigit() else (1 << 30, text)


_INSTANCE: Final = ("daemon", "instance_id")


def _instances(now: _Scrape) -> tuple[Instance, ...]:
    states = now.active(d.INSTANCE_STATE.name, "state", *_INSTANCE)
    values = {
        row.name: now.by(row.name, *_INSTANCE)
        for row in (
            *(d.REQUESTS_RUNNING, d.REQUESTS_WAITING, d.CONTEXT_LENGTH, d.TTL_REMAINING, d.PINNED),
            *(s.SLOTS, s.SLOT_RATE, h.INSTANCE_VRAM),
        )
    }
    progress = {
        (*(given.get(label, "") for label in _INSTANCE), given.get("slot", "")): value
        for given, value in now.rows(s.SLOT_PROMPT_PROGRESS.name)
    }
    slots: dict[tuple[str, ...], list[tuple[str, float | None]]] = defaultdict(list)
    for given, value in now.rows(s.SLOT_BUSY.name):
        key = tuple(given.get(label, "") for label in _INSTANCE)
        if value == 1:
            slots[key].append((given["slot"], progress.get((*key, given["slot"]))))
    rows = []
    for given, _ in now.rows(d.INSTANCE_INFO.name):
        key = tuple(given.get(label, "") for label in _INSTANCE)
        count = values[s.SLOTS.name].get(key)
        rows.append(
            Instance(
                daemon=key[0],
                identifier=key[1],
                model=given.get("model", ""),
                state=next(iter(states.get(key, ())), None),
                running=values[d.REQUESTS_RUNNING.name].get(key),
                waiting=values[d.REQUESTS_WAITING.name].get(key),
                slots=tuple(share for _, share in sorted(slots.get(key, ()))),
                slot_count=None if count is None else int(count),
                tokens_per_second=values[s.SLOT_RATE.name].get(key),
                context_length=values[d.CONTEXT_LENGTH.name].get(key),
                ttl_left_s=values[d.TTL_REMAINING.name].get(key),
                is_pinned=values[d.PINNED.name].get(key) == 1,
                vram_bytes=values[h.INSTANCE_VRAM.name].get(key),
            )
        )
    return tuple(sorted(rows, key=lambda row: (row.daemon, row.identifier)))[:MAX_ROWS]


def _requests(live: Mapping[str, Any]) -> tuple[Request, ...]:
    """Read /live leniently: a row that is not an object, or a value of another kind, is left out."""
    rows: list[Request] = []
    for key, is_running in (("in_flight", True), ("recent", False)):
        found = live.get(key)
        given = found[:MAX_ROWS] if isinstance(found, list) else []
        rows.extend(_request(row, is_running=is_running) for row in given if isinstance(row, dict))
    return tuple(rows)


def _request(row: Mapping[str, Any], *, is_running: bool) -> Request:
    def text(key: str) -> str | None:
        value = row.get(key)
        return value if isinstance(value, str) else None

    def number(key: str) -> float | None:
        value = row.get(key)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def whole(key: str) -> int | None:
        value = number(key)
        return None if value is None else int(value)

    return Request(
        daemon=text("daemon") or "",
        model=text("model") or "",
        client=text("client"),
        phase=text("phase" if is_running else "finished_reason") or "",
        is_running=is_running,
        elapsed_s=number("elapsed_seconds"),
        ttft_s=number("time_to_first_token_seconds"),
        tokens_per_second=number("tokens_per_second"),
        prompt_tokens=whole("prompt_tokens"),
        output_tokens=whole("output_tokens"),
        reasoning_share=number("reasoning_ratio"),
    )
