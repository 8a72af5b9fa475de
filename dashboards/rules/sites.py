"""Recording rules about sites: what differs between their daemons, and whether a host can fail.

A daemon's site is its `llmster_site_info`; a host's sites are those of the daemons that its exporter watches. Daemons
without a site are in none of these.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from dashboards.kit.promql import Expr, Selector, count_by, either, max_by, sum_by
from dashboards.rules.recording import Recording
from exporter.catalogue import Metric
from exporter.catalogue import daemon as d
from exporter.catalogue import hardware as h

_P: Final = Selector()
_DAEMON: Final = ("job", "instance", "daemon")
"""What tells a daemon from all others, also where several have the default name."""


def sited(expr: Expr) -> Expr:
    """Give the series of daemons the label `site`; those of daemons without one are left out."""
    sites = max_by(_P.now(d.SITE_INFO), *_DAEMON, "site")
    return replace(
        expr,
        text=f"{expr.beside(7)} * on ({', '.join(_DAEMON)}) group_left (site) {sites.text}",
        labels=(expr.labels or frozenset()) | {"site"},
        selectors=expr.selectors + sites.selectors,
        metrics=expr.metrics + sites.metrics,
        tie=6,
    )


def hosts_memory(selector: Selector, metric: Metric) -> Expr:
    """Add up a memory of GPUs by site and host (`instance`); a host of two sites counts in both."""
    total = sum_by(_P.now(metric), "instance")
    hosts = max_by(selector.now(d.SITE_INFO), "site", "instance")
    return replace(
        total,
        text=f"{hosts.text} * on (instance) group_left () {total.text}",
        labels=frozenset({"site", "instance"}),
        selectors=hosts.selectors + total.selectors,
        metrics=hosts.metrics + total.metrics,
        tie=6,
    )


def versions(selector: Selector) -> Expr:
    """Count the versions of the daemons of a site; llmster and the desktop app count apart."""
    return count_by(count_by(sited(selector.now(d.BUILD_INFO)), "site", "kind", "version"), "site", "kind")


def spare(selector: Selector) -> Expr:
    """Take the VRAM that is free at a site once its largest host failed and its models moved to the others.

    Below 0 they do not fit. It is the free VRAM of the other hosts, less what the largest holds, which is all that is
    free less the whole of the largest.
    """
    free, used = (hosts_memory(selector, metric) for metric in (h.MEMORY_FREE, h.MEMORY_USED))
    return (sum_by(free, "site") - max_by(free + used, "site")).in_unit("bytes")


def _partly_installed() -> Expr:
    """Count the versions of an engine that only some of a site's daemons with that engine have; 0 where all agree."""
    installed = sited(_P.now(d.ENGINE_INFO))
    holders = count_by(installed, "site", "engine", "version")
    daemons = count_by(count_by(installed, "site", "engine", *_DAEMON), "site", "engine")
    some = replace(
        holders,
        text=f"{holders.text} < on (site, engine) group_left () {daemons.text}",
        metrics=holders.metrics + daemons.metrics,
        tie=4,
    )
    return either(count_by(some, "site", "engine"), daemons * 0)


def _distinct_settings() -> Expr:
    """Count the values of each setting among a site's daemons; a mode is a value."""
    rows = tuple(row for row in d.ROWS if row.name.startswith("llmster_config_"))
    name = '{__name__=~"llmster_config_.+"}'
    named = Expr(
        f'label_replace({name}, "setting", "$1", "__name__", "llmster_config_(.+)")',
        frozenset({*_DAEMON, "mode", "setting"}),
        selectors=tuple(row.name for row in rows),
        metrics=rows,
    )
    by = ("site", "setting", "mode")
    values = sited(named)
    return count_by(
        replace(
            values,
            text=f'count_values by ({", ".join(by)}) ("value", {values.text})',
            labels=frozenset({*by, "value"}),
            tie=9,
        ),
        "site",
        "setting",
    )


VERSIONS: Final = Recording("site_kind:llmster_build_info:versions", versions(_P), ("site", "kind"))
ENGINES: Final = Recording(
    "site_engine:llmster_engine_info:versions_of_some", _partly_installed(), ("site", "engine")
)
SETTINGS: Final = Recording("site_setting:llmster_config:values", _distinct_settings(), ("site", "setting"))
HOSTS: Final = Recording("site:gpu_hosts:count", count_by(hosts_memory(_P, h.MEMORY_FREE), "site"), ("site",))
SPARE: Final = Recording("site:gpu_memory_spare_bytes:without_largest", spare(_P), ("site",))

RECORDINGS: Final = (VERSIONS, ENGINES, SETTINGS, HOSTS, SPARE)
