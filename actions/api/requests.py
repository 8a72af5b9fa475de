"""Parameters of requests, defined once for the query string and the OpenAPI document.

Values travel in the query string only: Grafana's buttons need them there. The exception is PUT of the desired state.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from actions.api.load_parameters import Commas, load_options
from actions.domain.command import Load
from actions.domain.errors import Param, Problem, invalid
from actions.domain.load_keys import KEYS
from actions.domain.load_options import contradiction, normal

MAX_WAIT_S: Final = 60.0
MAX_TTL_S: Final = 366 * 24 * 3600

Name = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
Words = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")]


class Parameters(BaseModel):
    """Base: what is not known is refused by name."""

    model_config = ConfigDict(extra="forbid")


class Waiting(Parameters):
    """Of every command that answers with an operation."""

    wait: float = Field(
        default=0, ge=0, le=MAX_WAIT_S, description="Seconds to wait for the end before answering 202."
    )


class Reasoned(Waiting):
    """Of every command: why."""

    reason: Words | None = Field(default=None, description="Goes into the audit. Required with force.")


if TYPE_CHECKING:

    class LoadOptions(Parameters):
        """The options of a load."""

else:
    LoadOptions = load_options(Parameters)


class Plan(LoadOptions):
    """How to load a model."""

    model: Name = Field(description="Model key as the daemon lists it.")
    instance_id: Name | None = Field(
        default=None, description="Name of the instance. Default: the model key."
    )
    ttl_seconds: int | None = Field(
        default=None,
        ge=1,
        le=MAX_TTL_S,
        description="Idle time after which the daemon unloads it; never if left out.",
    )

    @model_validator(mode="before")
    @classmethod
    def _left_alone(cls, given: Any) -> Any:
        """Leave out what a form sends as `default`: its choices that were left alone."""
        if not isinstance(given, dict):
            return given
        forms = ("context_length", "parallel", "ttl_seconds")
        return {key: value for key, value in given.items() if not (key in forms and value == "default")}


class Replacing(Plan):
    """A load that may make room first."""

    replace: Annotated[list[Name], Commas, Field(max_length=64)] = Field(
        default=[], description="Instances to eject first; they count as free."
    )


class PreflightParameters(Replacing):
    """Of a pre-flight."""


class FitParameters(Plan):
    """Of a question what fits. `context_length` asks about that one only."""


class LoadParameters(Replacing, Reasoned):
    """Of a load."""

    force: bool = Field(default=False, description="Load although it does not fit. Needs a reason.")


class EjectParameters(Reasoned):
    """Of an eject."""

    instance_id: Name = Field(description="The instance.")
    drain_seconds: float = Field(
        default=0,
        ge=0,
        le=3600,
        description="Wait so long for its queue to empty, then eject and end what is still in flight. "
        "Default 0: do not wait, and refuse if requests are in flight.",
    )
    force: bool = Field(default=False, description="Eject at once, and end the requests in flight.")


class EjectAllParameters(Reasoned):
    """Of the kill switch."""


class DownloadParameters(Reasoned):
    """Of a download."""

    model: Name = Field(description="Model key or Hugging Face URL.")
    quantization: Name | None = Field(default=None)


class SelectEngineParameters(Reasoned):
    """Of the selection of an engine."""

    engine: Name = Field(description="Name as listed.")
    version: Name = Field(description="Version as listed.")
    model_format: Name = Field(description="Such as GGUF.")


class UpdateEngineParameters(Reasoned):
    """Of the download of an engine."""

    engine: Name = Field(description="Name as listed.")
    version: Name = Field(description="Version that is offered.")


class ProbeParameters(Reasoned):
    """Of a probe."""

    model: Name = Field(description="Model key as the daemon lists it.")
    force: bool = Field(default=False, description="Also when loading it would not fit. Needs a reason.")


class OnDaemon(Reasoned):
    """Names the daemon in a parameter, for buttons: Grafana encodes parameters, and not paths."""

    daemon: Name = Field(description="Name of a configured daemon.")


class NamedLoad(OnDaemon, LoadParameters):
    """How to load a model, and on which daemon."""


class NamedEject(OnDaemon, EjectParameters):
    """What to eject, and from which daemon."""


class NamedEjectAll(OnDaemon, EjectAllParameters):
    """From which daemon everything is ejected."""


class NamedDownload(OnDaemon, DownloadParameters):
    """What to download, and to which daemon."""


class NamedProbe(OnDaemon, ProbeParameters):
    """What to probe, and on which daemon."""


class NamedOperation(Parameters):
    """Which operation."""

    id: Name = Field(description="Its id.")


class Selection(Parameters):
    """Which daemons a command is for; by name, by site, or both together."""

    daemon: Annotated[list[Name], Commas, Field(max_length=4096)] = Field(
        default=[], description="Names of daemons; may be given again."
    )
    site: Name | None = Field(
        default=None, description="All daemons of this site, or those named that are of it."
    )


class GroupEjectAllParameters(Selection, EjectAllParameters):
    """Of the kill switch on several daemons."""


class GroupEjectParameters(Selection, EjectParameters):
    """Of an eject on several daemons."""


class GroupLoadParameters(Selection, LoadParameters):
    """Of a load on several daemons."""


class GroupDownloadParameters(Selection, DownloadParameters):
    """Of a download on several daemons."""


class GroupProbeParameters(Selection, ProbeParameters):
    """Of a probe of several daemons."""


class GroupDesired(Selection, Plan):
    """A group: a model that must be loaded on at least so many of several daemons."""

    name: Name = Field(description="Name of the group.")
    model: Name | None = Field(  # type: ignore[assignment]
        default=None, description="Model key as the daemons list it. Required with at_least above 0."
    )
    at_least: int = Field(ge=0, le=4096, description="Daemons that shall have it; 0 removes the group.")
    wave: int = Field(default=1, ge=1, le=4096, description="Daemons that may be loading at the same time.")
    dry_run: bool = Field(default=False, description="Answer with the plan, and change nothing.")


class DesiredChange(Plan):
    """One change of what is desired. Nothing is replaced for it."""

    model: Name | None = Field(  # type: ignore[assignment]
        default=None, description="Model key as the daemon lists it. Required to add an instance."
    )
    pinned: bool = Field(default=True, description="false takes the instance off the list.")
    reap_idle_seconds: float | None = Field(
        default=None,
        ge=0,
        le=MAX_TTL_S,
        description="Eject what is not on the list after so much idleness; 0: never.",
    )


class GroupDesiredChange(Selection, DesiredChange):
    """The same change of what is desired of several daemons."""


class DesiredSet(Parameters):
    """The whole of what is desired."""

    instances: list[Plan] = Field(default=[], max_length=256)
    reap_idle_seconds: float | None = Field(default=None, gt=0, le=MAX_TTL_S)


def load_command(
    daemon: str,
    given: Plan,
    *,
    replace: Iterable[str] = (),
    force: bool = False,
    reason: str | None = None,
) -> Load:
    """Make a load of its parameters. Raises Problem."""
    if given.model is None:
        raise invalid("model", None, "is required to add an instance")
    options = normal({name: getattr(given, name) for name in KEYS})
    wrong = contradiction(options)
    if wrong is not None:
        raise invalid(wrong.parameter, None, wrong.why, Param(wrong.other))
    return Load(
        daemon=daemon,
        reason=reason,
        model=given.model,
        instance_id=given.instance_id,
        ttl_seconds=given.ttl_seconds,
        options=options,
        replace=tuple(dict.fromkeys(replace)),
        force=force,
    )


def explain(errors: list[Mapping[str, Any]] | Any) -> Problem:
    """Turn a validation error into a Problem that names the parameter, and never repeats a long value."""
    found = []
    for error in list(errors)[:10]:
        place = [str(part) for part in error.get("loc", ())]
        where = place[0] if place else "request"
        name = ".".join(place[1:]) or where
        what = _unknown(place[-1]) if error.get("type") == "extra_forbidden" else str(error.get("msg", ""))
        found.append({"parameter": name[:100], "in": where, "what": what[:300]})
    first = found[0] if found else {"parameter": "request", "what": "it is not right"}
    return Problem(
        "invalid-parameter",
        Param(first["parameter"]),
        f": {first['what']}",
        parameter=first["parameter"],
        errors=found,
    )


def _unknown(name: str) -> str:
    """Say that a parameter is none, and which one was perhaps meant."""
    kinds: list[type[Parameters]] = [Parameters]
    known: set[str] = set()
    while kinds:
        kind = kinds.pop()
        known |= kind.model_fields.keys()
        kinds += kind.__subclasses__()
    near = difflib.get_close_matches(name[:100], sorted(known), 1)
    return "no such parameter here" + (f"; did you mean {near[0]}?" if near else "")
