"""All recording rules, in the groups of their rule file.

Writes rule files; the alerts are in `alerts`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dashboards.kit.theme import Json
from dashboards.rules import recording, sites

GROUPS: Final = {
    "daemonpulse-rules": (recording.LOADED,),
    "daemonpulse-predictions": recording.PREDICTIONS,
    "daemonpulse-clients": recording.CLIENTS,
    "daemonpulse-objectives": (
        *recording.ERRORS.values(),
        *recording.TTFT_SLOW.values(),
        *recording.TPOT_SLOW.values(),
    ),
    "daemonpulse-gpus": recording.GPUS,
    "daemonpulse-sites": sites.RECORDINGS,
}
RECORDINGS: Final = tuple(rule for group in GROUPS.values() for rule in group)


def groups_file(groups: dict[str, Iterable[Json]]) -> Json:
    """Write a rule file."""
    return {"groups": [{"name": name, "rules": list(rules)} for name, rules in groups.items()]}


def recording_file() -> Json:
    """Write the file of recording rules."""
    return groups_file({name: [rule.to_json_data() for rule in group] for name, group in GROUPS.items()})
