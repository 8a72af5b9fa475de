"""All alerts, in the groups of their rule file. Each has a page in docs/runbook, and tests that it fires or not."""

from __future__ import annotations

from typing import Final

from dashboards.alerts import daemon, gpu, sites
from dashboards.alerts.naming import EVIDENCE, HOSTS, annotation, naming_rules
from dashboards.kit.theme import Json
from dashboards.rules.groups import groups_file

GROUPS: Final = {
    "daemonpulse-daemon": daemon.DAEMON,
    "daemonpulse-models": daemon.MODELS,
    "daemonpulse-objectives-burn": daemon.OBJECTIVES,
    "daemonpulse-gpu-memory": gpu.MEMORY,
    "daemonpulse-gpu-health": gpu.HEALTH,
    "daemonpulse-host": daemon.HOST,
    "daemonpulse-sites": sites.SITES,
    "daemonpulse-tools": daemon.TOOLS,
    "daemonpulse-self": daemon.SELF,
}
ALERTS: Final = tuple(alert for group in GROUPS.values() for alert in group)
NAMING: Final = naming_rules(ALERTS)
CAUSE_RULES: Final = (HOSTS, *EVIDENCE.values(), *NAMING.values())
"""Evidence first: the rules of a group run one after the other."""


def alert_file(runbooks: str) -> Json:
    """Write the file of alerting rules. `runbooks` is the address of a page, with {alert} for its name."""
    causes = {name: annotation(alert, NAMING[name]) for alert in ALERTS if (name := alert.name) in NAMING}
    return groups_file(
        {
            **{
                name: [alert.to_json_data(runbooks, causes.get(alert.name, "")) for alert in group]
                for name, group in GROUPS.items()
            },
            "daemonpulse-causes": [rule.to_json_data() for rule in CAUSE_RULES],
        }
    )
