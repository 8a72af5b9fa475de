"""The page a person sees who opens the exporter's address in a browser.

Knows the readings only; everything that came from outside is escaped, and no token is ever near it.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final

from exporter.pipeline.snapshots import DaemonReading

_WORDS: Final = {"running": "Running", "stalled": "Stalled", "down": "Down"}

_STYLE: Final = """
:root{color-scheme:dark}
body{margin:0;background:#0f172a;color:#e2e8f0;font:16px/1.6 system-ui,sans-serif}
main{max-width:56rem;margin:0 auto;padding:2.5rem 1.25rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}
p{margin:.4rem 0}a{color:#a5b4fc}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.5rem .75rem;border-bottom:1px solid #334155;vertical-align:top}
th{color:#cbd5e1;font-weight:600}
.state{font-weight:600;padding:.1rem .6rem;border-radius:1rem;border:1px solid}
.running{color:#93c5fd;border-color:#3b82f6}.stalled{color:#fdba74;border-color:#f97316}
.down{color:#fca5a5;border-color:#ef4444}
code{background:#1e293b;padding:.1rem .35rem;border-radius:.25rem}
"""


def page(readings: Iterable[DaemonReading], *, version: str) -> str:
    """Write the page: how each daemon is, and where the rest is."""
    rows = "".join(_row(reading) for reading in readings)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>DaemonPulse exporter</title><style>{_STYLE}</style></head><body><main>
<h1>DaemonPulse exporter</h1>
<p>Version {escape(version)}. Reads LM Studio daemons and speaks Prometheus.</p>
<h2>Daemons</h2>
<table><thead><tr><th>Name</th><th>State</th><th>What it holds</th></tr></thead><tbody>{rows}</tbody></table>
<h2>Endpoints</h2>
<p><a href="/metrics">/metrics</a> — all daemons and our own health</p>
<p><code>/probe?daemon=NAME</code> — one daemon, for multi-target scraping</p>
<p><a href="/sd">/sd</a> — the daemons as Prometheus HTTP service discovery</p>
<p><a href="/healthz">/healthz</a>, <a href="/readyz">/readyz</a> — for whoever supervises this process</p>
</main></body></html>
"""


def _row(reading: DaemonReading) -> str:
    state = reading.health.state.value
    snapshot = reading.snapshot
    if snapshot is None:
        told = str(reading.health.problem or "")
    else:
        busy = sum(instance.running or 0 for instance in snapshot.instances)
        told = f"{_count(len(snapshot.instances), 'instance')} loaded, {_count(busy, 'request')} running"
        told += f", version {snapshot.version.version}"
    name = escape(reading.name)
    return (
        f'<tr><td><a href="/probe?daemon={name}">{name}</a></td>'
        f'<td><span class="state {state}">{_WORDS[state]}</span></td><td>{escape(told)}</td></tr>'
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
