"""All alerts, in the groups of their rule file. Each has a page in docs/runbook, and tests that it fires or not."""

from __future__ import annotations

from typing import Final

from dashboards import alerts_cards, alerts_daemon, rules
from dashboards.look import Json

GROUPS: Final = {
    "daemonpulse-daemon": alerts_daemon.DAEMON,
    "daemonpulse-models": alerts_daemon.MODELS,
    "daemonpulse-objectives-burn": alerts_daemon.OBJECTIVES,
    "daemonpulse-gpu-memory": alerts_cards.MEMORY,
    "daemonpulse-gpu-health": alerts_cards.HEALTH,
    "daemonpulse-host": alerts_daemon.HOST,
    "daemonpulse-tools": alerts_daemon.TOOLS,
    "daemonpulse-ourselves": alerts_daemon.OURSELVES,
}
ALERTS: Final = tuple(alert for group in GROUPS.values() for alert in group)


def alert_file(runbooks: str) -> Json:
    """Write the file of alerting rules. `runbooks` is where the pages are, a folder or a URL."""
    return rules.groups_file(
        {name: [alert.to_json_data(runbooks) for alert in group] for name, group in GROUPS.items()}
    )
