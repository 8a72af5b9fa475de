"""The exporter's page for browsers: daemons, instances, GPUs and requests now.

Made of readings only: text from outside is escaped, and no token is in reach. It reloads without a script.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from exporter.hardware.gpus import Device
from exporter.pipeline.snapshots import DaemonReading

REFRESH_S: Final = 5
MAX_ROWS: Final = 100
"""Rows of one table; the number of further rows is below it."""
_WORDS: Final = {"running": "Running", "stalled": "Stalled", "refused": "Refused", "down": "Down"}
_GIB: Final = 1024**3

_STYLE: Final = """
:root{color-scheme:dark}
body{margin:0;background:#0f172a;color:#e2e8f0;font:16px/1.6 system-ui,sans-serif}
main{max-width:64rem;margin:0 auto;padding:2.5rem 1.25rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}
p{margin:.4rem 0}a{color:#a5b4fc}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.4rem .75rem;border-bottom:1px solid #334155;vertical-align:top}
th{color:#cbd5e1;font-weight:600}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.state{font-weight:600;padding:.1rem .6rem;border-radius:1rem;border:1px solid}
.running{color:#93c5fd;border-color:#3b82f6}.stalled{color:#fdba74;border-color:#f97316}
.refused{color:#fde68a;border-color:#eab308}
.down{color:#fca5a5;border-color:#ef4444}
code{background:#1e293b;padding:.1rem .35rem;border-radius:.25rem}
"""


def page(
    readings: Sequence[DaemonReading],
    *,
    version: str,
    gpus: Iterable[Device] = (),
    in_flight: Iterable[Mapping[str, Any]] = (),
    now_s: float | None = None,
) -> str:
    """Write the page. `in_flight` is what /live tells of requests; `now_s` is Unix time, for the TTLs."""
    now_s = time.time() if now_s is None else now_s
    instances = [row for reading in readings for row in _instances(reading, now_s)]
    sections = [
        _table("Daemons", ("Name", "State", "What it holds"), map(_daemon, readings)),
        _table(
            "Instances", ("Daemon", "Instance", "State", "#Running", "#Waiting", "#Context", "TTL"), instances
        ),
        _table(
            "GPUs", ("#GPU", "Name", "#VRAM used", "#Utilization", "#Temperature", "#Power"), map(_gpu, gpus)
        ),
        _table(
            "In flight",
            ("Daemon", "Client", "Model", "Phase", "#Tokens", "#tok/s", "#Elapsed"),
            map(_request, in_flight),
        ),
    ]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="refresh" content="{REFRESH_S}">
<title>DaemonPulse exporter</title><style>{_STYLE}</style></head><body><main>
<h1>DaemonPulse exporter</h1>
<p>Version {escape(version)}. Reads LM Studio daemons and speaks Prometheus. Refreshes every {REFRESH_S} s.</p>
{"".join(sections)}
<h2>Endpoints</h2>
<p><a href="/metrics">/metrics</a> — all daemons and the exporter's own metrics</p>
<p><code>/probe?daemon=NAME</code> — one daemon, for multi-target scraping</p>
<p><a href="/live">/live</a> — requests in flight and recent ones, as JSON</p>
<p><a href="/sd">/sd</a> — the daemons as Prometheus HTTP service discovery</p>
<p><a href="/healthz">/healthz</a>, <a href="/readyz">/readyz</a> — for the supervisor of this process</p>
</main></body></html>
"""


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table; `#` before a head aligns numbers. Cells are HTML. Nothing at all without a row."""
    cells = list(rows)
    if not cells:
        return ""
    classes = [' class="n"' if head.startswith("#") else "" for head in heads]
    head = "".join(
        f"<th{kind}>{escape(name.lstrip('#'))}</th>" for kind, name in zip(classes, heads, strict=True)
    )
    body = "".join(
        f"<tr>{''.join(f'<td{kind}>{cell}</td>' for kind, cell in zip(classes, row, strict=True))}</tr>"
        for row in cells[:MAX_ROWS]
    )
    more = f"<p>and {len(cells) - MAX_ROWS} more</p>" if len(cells) > MAX_ROWS else ""
    return f"<h2>{title}</h2>\n<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}\n"


def _daemon(reading: DaemonReading) -> tuple[str, ...]:
    state = reading.health.state.value
    snapshot = reading.snapshot
    if snapshot is None:
        told = str(reading.health.problem or "")
    else:
        busy = sum(instance.running or 0 for instance in snapshot.instances)
        told = f"{_count(len(snapshot.instances), 'instance')} loaded, {_count(busy, 'request')} running"
        told += f", version {snapshot.version.version or 'unknown'}"
    name = escape(reading.name)
    return (
        f'<a href="/probe?daemon={name}">{name}</a>',
        f'<span class="state {state}">{_WORDS[state]}</span>',
        escape(told),
    )


def _instances(reading: DaemonReading, now_s: float) -> Iterable[tuple[str, ...]]:
    for instance in reading.snapshot.instances if reading.snapshot is not None else ():
        left_ms = instance.ttl_remaining_ms(now_s * 1000)
        yield (
            escape(reading.name),
            escape(instance.info.identifier),
            escape(instance.processing.status if instance.processing is not None else ""),
            _number(instance.running),
            _number(instance.waiting),
            _number(instance.info.context_length),
            "none" if left_ms is None else f"{left_ms / 60_000:.0f} min left",
        )


def _gpu(device: Device) -> tuple[str, ...]:
    memory = device.memory
    used = (
        f"{memory.used_bytes / _GIB:.1f} / {memory.total_bytes / _GIB:.1f} GiB"
        if memory is not None and memory.used_bytes is not None
        else ""
    )
    load = device.utilization_ratio
    return (
        str(device.index),
        escape("lost" if device.lost else device.name or ""),
        used,
        "" if load is None else f"{load:.0%}",
        _number(device.temperatures_celsius.get("gpu"), " °C"),
        _number(device.power_watts, " W"),
    )


def _request(request: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        *(escape(request.get(key) or "") for key in ("daemon", "client", "model", "phase")),
        _number(request.get("output_tokens")),
        _number(request.get("tokens_per_second")),
        _number(request.get("elapsed_seconds"), " s"),
    )


def _number(value: float | None, unit: str = "") -> str:
    return "" if value is None else f"{value:.0f}{unit}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
