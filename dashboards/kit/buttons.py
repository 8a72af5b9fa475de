"""Buttons: Grafana fetch actions that POST to the actions API through Grafana's datasource proxy.

The proxy adds the token on Grafana's server, so that no board contains one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from dashboards.kit.theme import BUTTON, BUTTON_DANGER, Json
from dashboards.kit.variables import Variable

PROXY: Final = "/api/datasources/proxy/uid/${actions}"


def cell(label: str) -> str:
    """Take a label of the row the button is in."""
    return f"${{__data.fields.{label}}}"


@dataclass(frozen=True, slots=True)
class Button:
    """One button. The values travel as query parameters: there Grafana encodes them, in a path or body it does not."""

    title: str
    """Verb and object."""
    path: str
    """Below the API's root, such as /v1/models/load. Holds no value of a row."""
    confirmation: str
    """Names the target and the consequence."""
    values: dict[str, str] = field(default_factory=dict)
    danger: bool = False

    def to_json_data(self) -> Json:
        """Write the action."""
        return {
            "type": "fetch",
            "title": self.title,
            "confirmation": self.confirmation,
            "oneClick": False,
            "style": {"backgroundColor": BUTTON_DANGER if self.danger else BUTTON},
            "fetch": {
                "method": "POST",
                "url": PROXY + self.path,
                "queryParams": [[key, value] for key, value in self.values.items()],
                "headers": [],
            },
        }


LOAD_FORM: Final = (
    Variable(
        "context",
        "Load: context",
        "custom",
        "default,4k : 4096,8k : 8192,16k : 16384,32k : 32768,64k : 65536,128k : 131072",
        default="default",
        about="Context length of the next load, tokens.",
    ),
    Variable(
        "ttl",
        "Load: TTL",
        "custom",
        "default,5 min : 300,30 min : 1800,1 h : 3600,8 h : 28800",
        default="default",
        about="Idle time after which the next load is unloaded.",
    ),
    Variable(
        "parallel",
        "Load: parallel",
        "custom",
        "default,1,2,4,8,16",
        default="default",
        about="Requests that the next load works on at once.",
    ),
)
"""The form of a load, as variables of the board: every Grafana has those, and they are encoded as parameters."""

LOAD: Final = Button(
    "Load model",
    "/v1/models/load",
    f"Load {cell('model')} on {cell('daemon')} (context $context, TTL $ttl s, parallel $parallel)? It takes VRAM "
    "at once. A model that does not fit is refused.",
    {
        "daemon": cell("daemon"),
        "model": cell("model"),
        "context_length": "$context",
        "ttl_seconds": "$ttl",
        "parallel": "$parallel",
    },
)
EJECT: Final = Button(
    "Eject instance",
    "/v1/models/eject",
    f"Eject {cell('instance_id')} from {cell('daemon')}? Running requests have 30 s to end; later ones fail "
    "or load the model again.",
    {"daemon": cell("daemon"), "instance_id": cell("instance_id"), "drain_seconds": "30"},
    danger=True,
)
EJECT_ALL: Final = Button(
    "Eject all",
    "/v1/models/eject-all",
    f"Eject every model from {cell('daemon')} NOW? Running requests are aborted. This is the kill switch.",
    {"daemon": cell("daemon")},
    danger=True,
)
PROBE: Final = Button(
    "Probe model",
    "/v1/probe",
    f"Send one short chat to {cell('model')} on {cell('daemon')}? It loads the model if it is not loaded.",
    {"daemon": cell("daemon"), "model": cell("model")},
)
CANCEL: Final = Button(
    "Cancel operation",
    "/v1/operations/cancel",
    f"Cancel {cell('action')} of {cell('subject')}? A load is undone where the daemon allows it.",
    {"id": cell("id")},
    danger=True,
)
APPROVE: Final = Button(
    "Approve call",
    "/v1/mcp/approvals/approve",
    f"Let {cell('server')} run {cell('tool')} once? It runs with the rights of that server.",
    {"id": cell("id")},
)
DENY: Final = Button(
    "Deny call",
    "/v1/mcp/approvals/deny",
    f"Deny this call of {cell('tool')} on {cell('server')}? The model is told that it was refused.",
    {"id": cell("id")},
    danger=True,
)


_GATE: Final = "/v1/mcp/gate"
_TOOL: Final = {"server": cell("server"), "tool": cell("tool")}


def gate(decision: str, consequence: str) -> Button:
    """Make the button that sets the policy of a tool, as the row shows it: refused if it has changed since."""
    return Button(
        f"{decision.capitalize()} tool",
        _GATE,
        f"Set {cell('tool')} of {cell('server')} to {decision}? {consequence}",
        {**_TOOL, "decision": decision, "definition_sha256": cell("definition_sha256")},
        danger=decision == "allow",
    )


GATES: Final = (
    gate("allow", "Every call of it runs from now on without approval."),
    gate("ask", "Every call of it needs an approval from now on."),
    gate("deny", "Models no longer see it, and calls of it are denied."),
    Button(
        "Reset tool",
        _GATE,
        f"Reset {cell('tool')} of {cell('server')}? Then the policy file decides about it again.",
        {**_TOOL, "decision": "policy"},
        danger=True,
    ),
)
