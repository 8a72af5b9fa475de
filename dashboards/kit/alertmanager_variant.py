"""Boards for a Grafana that may not load the plugin: its own Alertmanager datasource carries what buttons it can.

Panels that need the plugin (the lists of the actions API) become a text with the equivalent command.
"""

from __future__ import annotations

from typing import Any, Final

from dashboards.kit.targets import ACTIONS_TYPE
from dashboards.kit.theme import Json

CARRIER: Final = "alertmanager"
"""Of Grafana's own datasources the one that lets Editors POST, and only Editors."""

_ELSEWHERE: Final = {
    "operations": "daemonpulse actions operations",
    "approvals": "daemonpulse actions mcp approvals",
    "gates": "daemonpulse actions mcp list SERVER",
    "audit": "curl -H 'Authorization: Bearer dp_…' http://127.0.0.1:9811/v1/audit",
    "live": "daemonpulse top",
    "think": "curl -N -X POST -H 'Authorization: Bearer dp_…' "
    "'http://127.0.0.1:9811/v1/live/text?daemon=DAEMON&request=REQUEST&seconds=300'",
}


def without_plugin(board: Json) -> Json:
    """Give the board with its buttons carried by the Alertmanager datasource, and a note where each list was."""
    carried: Json = _retyped({**board, "panels": [_noted(panel) for panel in board["panels"]]})
    return carried


def _noted(panel: Json) -> Json:
    if panel.get("panels"):
        return {**panel, "panels": [_noted(inner) for inner in panel["panels"]]}
    targets = panel.get("targets", [])
    if not targets or targets[0]["datasource"]["type"] != ACTIONS_TYPE:
        return panel
    kept = {
        key: panel[key] for key in ("id", "title", "description", "gridPos", "pluginVersion", "transparent")
    }
    content = (
        f"{panel['description']}\n\nThis list needs the datasource plugin of DaemonPulse. Without it, in a terminal:"
        f"\n\n    {_ELSEWHERE[targets[0]['resource']]}\n"
    )
    return {**kept, "type": "text", "options": {"mode": "markdown", "content": content}}


def _retyped(value: Any) -> Any:
    """Let readers choose among datasources of the carrier's type wherever they chose among the plugin's."""
    if isinstance(value, dict):
        return {key: _retyped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_retyped(item) for item in value]
    return CARRIER if value == ACTIONS_TYPE else value
