"""Commands: validated, immutable requests, and how they are written on the daemon's wire.

Pure. Does not depend on HTTP or policy; a command is stored as JSON and survives a restart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from actions.domain.actor import Scope
from actions.domain.load_keys import KEYS
from actions.domain.load_options import Comparison, compared, normal, wire_fields
from exporter.llmster.commands import LoadRequest, Namespace
from exporter.llmster.state import InstanceInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Base of all commands."""

    ACTION: ClassVar[str]
    NEEDS: ClassVar[Scope] = Scope.OPERATE
    """The scope it needs; `needs` may be more."""
    CHANGES_INSTANCES: ClassVar[bool] = False
    """Whether it loads or unloads; changes of instances belong to it while it runs."""
    EJECTS: ClassVar[bool] = False
    """Whether it ejects every instance that it noted before it began."""
    STOPPED_BY_KILL_SWITCH: ClassVar[bool] = True
    IS_RATE_LIMITED: ClassVar[bool] = True
    NOT_CANCELLABLE: ClassVar[str | None] = None
    """Why it cannot be cancelled."""

    daemon: str
    reason: str | None = None
    group: str | None = None
    """What commands for several daemons have in common; None for a command by itself."""

    @property
    def needs(self) -> Scope:
        """The scope that this very command needs."""
        return self.NEEDS

    @property
    def is_internal(self) -> bool:
        """Whether the reconciler submitted it, and not a person."""
        return False

    @property
    def subject(self) -> str:
        """Its subject in the audit: the instance, the model, the engine, else the daemon."""
        names = (getattr(self, name, None) for name in ("instance_id", "model", "engine", "daemon"))
        return next(str(name) for name in names if name)

    @property
    def replaces(self) -> tuple[str, ...]:
        """Of a load: instances that it ejects first, among all that it noted."""
        return ()

    def to_json(self) -> dict[str, Any]:
        """Write every field; `from_json` reads it back."""
        # Not asdict(), which copies what is in a field: a command is frozen and so are its values.
        written = {
            "action": self.ACTION,
            **{one.name: getattr(self, one.name) for one in dataclasses.fields(self)},
        }
        if self.group is None:
            del written["group"]
        return written


@dataclass(frozen=True, slots=True, kw_only=True)
class Load(Command):
    """Load a model. What is None is left to the daemon."""

    ACTION = "load"
    CHANGES_INSTANCES = True

    model: str
    instance_id: str | None = None
    ttl_seconds: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """By parameter name, as in load_keys.py; only those that are set."""
    replace: tuple[str, ...] = ()
    """Instances to eject first."""
    force: bool = False

    @property
    def needs(self) -> Scope:
        """The scope `admin` for an option that can do more to the host than load a model."""
        return Scope.ADMIN if any(KEYS[name].needs_admin for name in self.options) else self.NEEDS

    @property
    def replaces(self) -> tuple[str, ...]:
        """Instances that it ejects first."""
        return self.replace

    def unsuited(self, namespace: Namespace) -> str | None:
        """Name an option that this kind of model has no key for; None when there is none."""
        return next((name for name in self.options if KEYS[name].wire(namespace) is None), None)

    def request(self, namespace: Namespace, device_identifier: str | None) -> LoadRequest:
        """Make what the client sends."""
        return LoadRequest(
            model_key=self.model,
            namespace=namespace,
            identifier=self.instance_id,
            ttl_ms=self.ttl_seconds * 1000 if self.ttl_seconds is not None else None,
            device_identifier=device_identifier,
            fields=wire_fields(self.options, namespace),
        )

    def compared(self, loaded: InstanceInfo, config: Mapping[str, Any]) -> Comparison:
        """Tell in what a loaded instance is not what this command asks for."""
        different, unknown = compared(self.options, loaded, config)
        if self.ttl_seconds is not None and loaded.ttl_ms != self.ttl_seconds * 1000:
            different = (*different, "ttl_seconds")
        if "@" in self.model and loaded.selected_variant is None:
            unknown = (*unknown, "model")
        elif "@" in self.model and loaded.selected_variant != self.model:
            different = (*different, "model")
        return Comparison(different, unknown)

    def to_json(self) -> dict[str, Any]:
        """Write every field, and each option beside them."""
        written = Command.to_json(self)
        options: Mapping[str, Any] = written.pop("options")
        return {**written, **options}


@dataclass(frozen=True, slots=True, kw_only=True)
class Eject(Command):
    """Unload one instance, after waiting up to `drain_seconds` for its queue to empty."""

    ACTION = "eject"
    CHANGES_INSTANCES = True
    EJECTS = True

    instance_id: str
    drain_seconds: float = 0.0
    """0 does not wait: requests in flight are then a refusal, unless `force` is set."""
    force: bool = False
    """Also when it ends requests in flight."""
    only_if_idle: bool = False
    """Of the reaper: leave a busy instance."""
    reference: str | None = None
    """Of the reaper: the instance reference that was seen idle."""

    @property
    def is_internal(self) -> bool:
        """Whether the reaper submitted it."""
        return self.only_if_idle

    @property
    def may_end_requests(self) -> bool:
        """Whether it ejects an instance that has requests in flight when the drain is over."""
        return (self.force or self.drain_seconds > 0) and not self.only_if_idle


@dataclass(frozen=True, slots=True, kw_only=True)
class EjectAll(Command):
    """The kill switch: stop loads under way and unload everything, busy or not."""

    ACTION = "eject_all"
    CHANGES_INSTANCES = True
    EJECTS = True
    STOPPED_BY_KILL_SWITCH = False
    IS_RATE_LIMITED = False
    NOT_CANCELLABLE = "eject-all is the kill switch and runs to its end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Download(Command):
    """Let the daemon download a model."""

    ACTION = "download"
    STOPPED_BY_KILL_SWITCH = False

    model: str
    quantization: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectEngine(Command):
    """Select an installed engine for a model format; loads from then on run on it."""

    ACTION = "select_engine"
    NEEDS = Scope.ADMIN
    STOPPED_BY_KILL_SWITCH = False

    engine: str
    version: str
    model_format: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateEngine(Command):
    """Download a version of an engine, and select it where another version of it is selected."""

    ACTION = "update_engine"
    NEEDS = Scope.ADMIN
    STOPPED_BY_KILL_SWITCH = False

    engine: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe(Command):
    """Chat once with a canned prompt and measure. A model that is not loaded is loaded by the daemon."""

    ACTION = "probe"

    model: str
    force: bool = False


COMMANDS: Final[Mapping[str, type[Command]]] = {
    kind.ACTION: kind for kind in (Load, Eject, EjectAll, Download, Probe, SelectEngine, UpdateEngine)
}


def from_json(stored: Mapping[str, Any]) -> Command:
    """Read back a stored command. Raises ValueError, KeyError or TypeError for one of another version."""
    kind = COMMANDS[stored["action"]]
    names = {one.name: one for one in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for key, value in stored.items():
        if key in names:
            is_tuple = str(names[key].type).startswith("tuple")  # JSON has lists only
            values[key] = tuple(value) if is_tuple else value
        elif "options" in names and key in KEYS:
            options[key] = value
        elif key != "action":
            raise ValueError(f"{stored['action']} has no field {key!r:.80}")
    if "options" in names:
        values["options"] = normal(options)
    return kind(**values)
