"""Makes a board of a runbook page, so that the link of an alert opens where its boards are.

The pages are in docs/runbook.
"""

from __future__ import annotations

import re
from typing import Final

from dashboards.kit.board import SCHEMA_VERSION
from dashboards.kit.theme import Json

TAG: Final = "daemonpulse-runbook"
HEIGHT: Final = 20

_BOARD: Final = re.compile(r"Board (Overview|Fleet|Forge|Pulse|Toolchain|Console|Economics|SLO)")
_PAGE: Final = re.compile(r"\]\((\w+)\.md\)")


def runbook_board(alert: str, text: str) -> Json:
    """Give the board: one text panel, whose uid is the alert's name. Names of boards and pages become links."""
    body = text.partition("\n")[2].strip()
    linked = _BOARD.sub(lambda match: f"Board [{match[1]}](/d/daemonpulse-{match[1].lower()})", body)
    content = _PAGE.sub(lambda match: f"](/d/{match[1]})", linked)
    return {
        "uid": alert,
        "title": alert,
        "tags": [TAG],
        "editable": False,
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "panels": [
            {
                "type": "text",
                "id": 1,
                "title": f"Runbook: {alert}",
                "gridPos": {"x": 0, "y": 0, "w": 24, "h": HEIGHT},
                "options": {"mode": "markdown", "content": content},
            }
        ],
        "templating": {"list": []},
        "annotations": {"list": []},
        "time": {"from": "now-1h", "to": "now"},
    }
