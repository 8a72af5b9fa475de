"""Variables of boards: what a reader chooses at the top, and how one choice makes the list of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dashboards.kit.promql import Selector
from dashboards.kit.targets import ACTIONS_TYPE, PROMETHEUS
from dashboards.kit.theme import Json
from exporter.catalogue import Metric
from exporter.catalogue import daemon as d
from exporter.catalogue import hardware as h

FIXED_UIDS: Final = {
    "prometheus": "daemonpulse-prometheus",
    "loki": "daemonpulse-loki",
    "tempo": "daemonpulse-tempo",
    "actions": "daemonpulse-actions",
}
"""Datasources of the shipped stack. Grafana takes the first of the same type where there is none of these."""
SOURCE_TYPES: Final = {"prometheus": "prometheus", "loki": "loki", "tempo": "tempo", "actions": ACTIONS_TYPE}


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a board."""

    name: str
    label: str
    kind: str
    """datasource, query, textbox or custom."""
    query: str = ""
    """For custom: choices as `text : value` or `value`, joined by commas."""
    default: str = ""
    about: str = ""
    regex: str = ""
    """For query: with groups named text and value, what of each result is shown and what is asked for."""
    all_is_listed: bool = False
    """For query: whether All means the values of the list, because another variable makes that list."""
    hidden: bool = False

    def to_json_data(self) -> Json:
        """Write the variable."""
        data: Json = {
            "name": self.name,
            "label": self.label,
            "type": self.kind,
            "description": self.about,
            "hide": 2 if self.hidden else 0,
            "skipUrlSync": False,
        }
        if self.kind == "datasource":
            uid = FIXED_UIDS[self.name]
            return {
                **data,
                "current": {"text": uid, "value": uid, "selected": True},
                "query": self.query,
                "refresh": 1,
                "regex": "",
                "multi": False,
                "includeAll": False,
            }
        if self.kind == "query":
            return {
                **data,
                "datasource": PROMETHEUS,
                "query": {"qryType": 1, "query": self.query, "refId": f"variable-{self.name}"},
                "refresh": 2,
                "regex": self.regex,
                "sort": 1,
                "multi": True,
                "includeAll": True,
                **({} if self.all_is_listed else {"allValue": ".*"}),
                "current": {"text": ["All"], "value": ["$__all"], "selected": True},
            }
        if self.kind == "textbox":
            current = {"text": self.default, "value": self.default, "selected": True}
            return {**data, "query": self.default, "current": current, "options": [current]}
        choices = [choice.split(" : ") for choice in self.query.split(",")]
        options = [
            {"text": choice[0], "value": choice[-1], "selected": choice[-1] == self.default}
            for choice in choices
        ]
        current = next(option for option in options if option["selected"])
        return {**data, "query": self.query, "current": current, "options": options, "multi": False}


def source(name: str, label: str) -> Variable:
    """Let the reader choose the datasource of a kind. Hidden where there is most often one of it."""
    about = f"The {label} datasource to query."
    return Variable(name, label, "datasource", SOURCE_TYPES[name], about=about, hidden=True)


def values_of(name: str, label: str, metric: Metric, key: str, *, about: str, **matchers: str) -> Variable:
    """List a label's values."""
    selector = Selector().now(metric, **matchers).text
    if key not in metric.labels and key != "instance":
        raise ValueError(f"{metric.name} has no label {key}")
    return Variable(name, label, "query", f"label_values({selector}, {key})", about=about)


def at_site(metric: Metric) -> str:
    """Select what is of the sites that are shown, and with all of them also what is of none.

    A metric without the label `site` matches where every site does; where some are chosen, `llmster_site_info` is left.
    """
    return f'{{__name__=~"{d.SITE_INFO.name}|{metric.name}",site=~"$site"}}'


SITE: Final = values_of("site", "Site", d.SITE_INFO, "site", about="Sites to show.")
DAEMON: Final = Variable(
    "daemon",
    "Daemon",
    "query",
    f"label_values({at_site(d.STATE)}, daemon)",
    about="Daemons to show: those of the site.",
    all_is_listed=True,
)
HOST: Final = Variable(
    "host",
    "Host",
    "query",
    f"query_result({h.DEVICE_INFO.name} and on (instance) {at_site(h.DEVICE_INFO)})",
    regex='/instance="(?<value>[^"]+)"/',
    about="Hosts to show, those of the site: the exporter's address.",
    all_is_listed=True,
)
MODEL: Final = values_of("model", "Model", d.MODEL_INFO, "model", about="Models to show.", daemon="=~$daemon")
