"""Alerts about sites: daemons that differ from their neighbours, instances that are desired and missing, reserve."""

from __future__ import annotations

from typing import Final

from dashboards.alerts.alert import INFO, WARNING, Alert
from dashboards.kit.promql import Selector, both, max_by
from dashboards.rules import sites
from exporter.catalogue import actions as a

SITES: Final = (
    Alert(
        "LlmsterVersionDrift",
        sites.VERSIONS.series > 1,
        INFO,
        "Site {{ $labels.site }} runs {{ $value }} versions of the {{ $labels.kind }}.",
        "1h",
    ),
    Alert(
        "LlmsterEngineDrift",
        sites.ENGINES.series > 0,
        INFO,
        "Versions of {{ $labels.engine }} differ between the daemons of site {{ $labels.site }}: "
        "{{ $value }} on some only.",
        "1h",
    ),
    Alert(
        "LlmsterSettingsDrift",
        sites.SETTINGS.series > 1,
        WARNING,
        "Setting {{ $labels.setting }} has {{ $value }} values among the daemons of site {{ $labels.site }}.",
        "1h",
    ),
    Alert(
        "LlmsterDesiredInstanceMissing",
        max_by(Selector().now(a.DESIRED_LOADED), "daemon", "instance_id").equals(0),
        WARNING,
        "{{ $labels.instance_id }} is desired on {{ $labels.daemon }} and not loaded.",
        "10m",
    ),
    Alert(
        "LlmsterGroupIncomplete",
        max_by(Selector().now(a.GROUP_MISSING), "group") > 0,
        WARNING,
        "Group {{ $labels.group }} lacks {{ $value }} daemons that serve its model.",
        "10m",
    ),
    Alert(
        "GpuSiteNotRedundant",
        both(0 - sites.SPARE.series > 0, sites.HOSTS.series > 1),
        WARNING,
        "Site {{ $labels.site }} lacks {{ $value | humanize1024 }}B of free VRAM to replace its largest host.",
        "15m",
    ),
)
