"""What requests may say: every parameter once, for the query string, the JSON body and the OpenAPI document alike.

Knows no command's meaning; `merged` makes one set of a query and a body, and routes make commands of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from actions.domain.command import Load
from actions.domain.errors import Problem, invalid

MAX_WAIT_S: Final = 60.0
MAX_TTL_S: Final = 366 * 24 * 3600

Name = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
Words = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")]


def _split(value: Any) -> Any:
    """Let a list be written `a,b` as well as `a` and `b` in two parameters."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        return items
    return [part.strip() for item in items for part in item.split(",") if part.strip()]


Commas = BeforeValidator(_split)
GpuIndex = Annotated[int, Field(ge=0, le=255)]


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


class Plan(Parameters):
    """How to load a model."""

    model: Name | None = Field(default=None, description="Model key as the daemon lists it. Required.")
    instance_id: Name | None = Field(
        default=None, description="Name of the instance. Default: the model key."
    )
    context_length: int | None = Field(default=None, ge=1, le=100_000_000, description="Tokens.")
    gpu_offload: Annotated[float, Field(ge=0, le=1)] | Literal["max", "off"] | None = Field(
        default=None, description='Share of the layers on GPUs, 0 to 1, or "max" or "off".'
    )
    split: Literal["evenly", "priorityOrder", "tensor", "custom"] | None = Field(
        default=None, description="How to spread over several GPUs."
    )
    disabled_gpus: Annotated[list[GpuIndex], Commas, Field(max_length=64)] = Field(
        default=[], description="Indices of GPUs to leave alone."
    )
    gpu_priority: Annotated[list[GpuIndex], Commas, Field(max_length=64)] = Field(
        default=[], description="With split=priorityOrder: indices, the first to fill first."
    )
    gpu_ratio: Annotated[list[Annotated[float, Field(ge=0, le=1e6)]], Commas, Field(max_length=64)] = Field(
        default=[], description="With split=custom: shares by index."
    )
    parallel: int | None = Field(default=None, ge=1, le=1024, description="Requests worked on at once.")
    flash_attention: bool | None = Field(default=None)
    ttl_seconds: int | None = Field(
        default=None,
        ge=1,
        le=MAX_TTL_S,
        description="Idle time after which the daemon unloads it; never if left out.",
    )


class Replacing(Plan):
    """A load that may make room first."""

    replace: Annotated[list[Name], Commas, Field(max_length=64)] = Field(
        default=[], description="Instances to eject first; they count as free."
    )


class PreflightParameters(Replacing):
    """Of a pre-flight."""


class LoadParameters(Replacing, Reasoned):
    """Of a load."""

    force: bool = Field(default=False, description="Load although it does not fit. Needs a reason.")


class EjectParameters(Reasoned):
    """Of an eject."""

    instance_id: Name | None = Field(default=None, description="The instance. Required.")
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

    model: Name | None = Field(default=None, description="Model key or Hugging Face URL. Required.")
    quantization: Name | None = Field(default=None)


class ProbeParameters(Reasoned):
    """Of a probe."""

    model: Name | None = Field(default=None, description="Model key as the daemon lists it. Required.")
    force: bool = Field(default=False, description="Also when loading it would not fit. Needs a reason.")


class DesiredChange(Plan):
    """One change of what is desired. Nothing is replaced for it."""

    pinned: bool = Field(default=True, description="false takes the instance off the list.")
    reap_idle_seconds: float | None = Field(
        default=None,
        ge=0,
        le=MAX_TTL_S,
        description="Eject what is not on the list after so much idleness; 0: never.",
    )


class DesiredSet(Parameters):
    """The whole of what is desired."""

    instances: list[Plan] = Field(default=[], max_length=256)
    reap_idle_seconds: float | None = Field(default=None, gt=0, le=MAX_TTL_S)


P = TypeVar("P", bound=Parameters)


def merged(query: P, body: P | None) -> P:
    """Make one set of what the query string and the body say. Raises Problem when they disagree."""
    if body is None:
        return query
    both = query.model_fields_set & body.model_fields_set
    for name in sorted(both):
        if getattr(query, name) != getattr(body, name):
            raise invalid(name, None, "the query string and the body say different things; say it once")
    given = {name: getattr(query, name) for name in query.model_fields_set}
    return body.model_copy(update=given)


def required(parameters: Parameters, name: str) -> str:
    """Return a parameter that must be there. Raises Problem."""
    value = getattr(parameters, name)
    if value is None:
        raise invalid(name, None, "is required, in the query string or the body")
    return str(value)


def load_command(
    daemon: str,
    given: Plan,
    *,
    replace: Iterable[str] = (),
    force: bool = False,
    reason: str | None = None,
) -> Load:
    """Make a load of its parameters. Raises Problem."""
    model = required(given, "model")
    if given.split == "custom" and not any(given.gpu_ratio):
        raise invalid("gpu_ratio", None, "split=custom needs a share above 0, such as gpu_ratio=2,1")
    if given.gpu_ratio and given.split != "custom":
        raise invalid("gpu_ratio", None, "is only for split=custom")
    if given.gpu_priority and given.split != "priorityOrder":
        raise invalid("gpu_priority", None, "is only for split=priorityOrder")
    return Load(
        daemon=daemon,
        reason=reason,
        model=model,
        instance_id=given.instance_id,
        context_length=given.context_length,
        ttl_seconds=given.ttl_seconds,
        gpu_offload=given.gpu_offload,
        split=given.split,
        disabled_gpus=tuple(sorted(set(given.disabled_gpus))),
        gpu_priority=tuple(given.gpu_priority),
        gpu_ratio=tuple(given.gpu_ratio),
        parallel=given.parallel,
        flash_attention=given.flash_attention,
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
        found.append({"parameter": name[:100], "in": where, "what": str(error.get("msg", ""))[:300]})
    first = found[0] if found else {"parameter": "request", "what": "it is not right"}
    return Problem(
        "invalid-parameter",
        f"{first['parameter']}: {first['what']}",
        parameter=first["parameter"],
        errors=found,
    )
