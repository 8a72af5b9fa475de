"""What is known about one load before it begins: the model, what is loaded, whether it fits.

Pure. commands/load_plan.py reads the daemon and fills it in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from actions.domain.command import Load
from actions.domain.errors import Param, Problem
from actions.domain.load_options import Comparison
from actions.domain.preflight import Need, Preflight, Verdict
from exporter.llmster.state import DownloadedModel, InstanceInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """One load, as far as it is known."""

    command: Load
    model: DownloadedModel
    instances: tuple[InstanceInfo, ...] = ()
    """What is loaded now, on every device."""
    existing: InstanceInfo | None = None
    """An instance that is what the command asks for: there is nothing to load."""
    need: Need | str | None = None
    """The daemon's estimate, or why there is none. Costly for the daemon, so it is asked once per load."""
    preflight: Preflight | None = None
    queued: Mapping[str, int | None] = field(default_factory=dict)
    """Requests in flight by instance that is to be replaced; None where the daemon does not report them."""

    def require_room(self) -> None:
        """Raise Problem when it does not fit and is not forced: what ran before may have taken the memory."""
        preflight = self.preflight
        if preflight is None or preflight.verdict is not Verdict.DOES_NOT_FIT or self.command.force:
            return
        raise does_not_fit(self.command.model, preflight)


def does_not_fit(model: str, preflight: Preflight) -> Problem:
    """Say why a load does not fit, and what can be done about it."""
    return Problem(
        "does-not-fit",
        f"{model}: {'; '.join(preflight.reasons)}. Eject something first, name it in ",
        Param("replace"),
        ", choose other GPUs or a smaller ",
        Param("context_length"),
        ", or use ",
        Param("force", value=True),
        " with a ",
        Param("reason"),
        preflight=preflight.to_json(),
    )


def candidates(
    command: Load, model: DownloadedModel, instances: Iterable[InstanceInfo]
) -> tuple[InstanceInfo, ...]:
    """List the instances that may be what the command asks for, or be in its way.

    With an `instance_id` it is the one of that name, else every instance of the model on its device; the daemon would
    stack a `:2`.
    """
    return tuple(
        info
        for info in instances
        if info.identifier not in command.replace
        and (
            info.identifier == command.instance_id
            if command.instance_id is not None
            else info.model_key == model.model_key and info.device_identifier == model.device_identifier
        )
    )


def existing(
    command: Load,
    model: DownloadedModel,
    loaded: Iterable[tuple[InstanceInfo, Mapping[str, Any]]],
) -> InstanceInfo | None:
    """Choose among candidates with their configurations. Raises Problem when one is in the way."""
    in_the_way: list[tuple[InstanceInfo, Comparison]] = []
    for info, config in loaded:
        found = (
            command.compared(info, config)
            if info.model_key == model.model_key
            else Comparison(("model",), ())
        )
        if not found.different and not found.unknown:
            return info
        in_the_way.append((info, found))
    if not in_the_way:
        return None
    info, found = in_the_way[0]
    raise Problem(
        "instance-exists",
        f"{info.identifier} is loaded ",
        *_why(found),
        "; use ",
        Param("replace", info.identifier),
        " to load it anew, or give the new one another ",
        Param("instance_id"),
        instance_id=info.identifier,
        differences=[*found.different, *found.unknown],
    )


def _why(found: Comparison) -> tuple[str | Param, ...]:
    parts: list[str | Param] = []
    for words, names in (("with another ", found.different), ("with an unknown ", found.unknown)):
        for number, name in enumerate(names):
            parts += [words if not number and not parts else ", " if number else f" and {words}", Param(name)]
    return tuple(parts)
