"""Commands: what somebody wants done, checked and frozen, with what it means on the daemon's wire.

Pure. Knows neither HTTP nor whether the command is allowed; a command survives a restart as JSON.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from actions.domain.actor import Scope
from exporter.llmster.commands import LoadRequest, Namespace
from exporter.llmster.state import InstanceInfo

CONTEXT: Final = "llm.load.contextLength"
EMBEDDING_CONTEXT: Final = "embedding.load.contextLength"
OFFLOAD: Final = "llm.load.llama.acceleration.offloadRatio"
PARALLEL: Final = "llm.load.numParallelSessions"
FLASH: Final = "llm.load.llama.flashAttention"
SPLIT: Final = "load.gpuSplitConfig"
AUTO_FIT: Final = ("llm.load.llama.autoFit", "llm.load.mlx.autoFit", "llm.load.yuzu.autoFit")
"""Switched off with an explicit context or offload, which would else be a mere default.

Source: frames 08 and 09, where the official client sends all three.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Base of all commands."""

    ACTION: ClassVar[str]
    NEEDS: ClassVar[Scope] = Scope.OPERATE
    CHANGES_INSTANCES: ClassVar[bool] = False
    """Whether it loads or unloads; while such an operation runs, what comes and goes is its doing."""
    EJECTS: ClassVar[bool] = False
    """Whether it ejects every instance that it noted before it began."""
    STOPPED_BY_KILL_SWITCH: ClassVar[bool] = True
    IS_RATE_LIMITED: ClassVar[bool] = True
    NOT_CANCELLABLE: ClassVar[str | None] = None
    """Why it cannot be cancelled."""

    daemon: str
    reason: str | None = None

    @property
    def is_internal(self) -> bool:
        """Whether the keeper wants it, and not a person."""
        return False

    @property
    def subject(self) -> str:
        """The thing it is about, for the audit: the instance, else the model, else the daemon."""
        names = (getattr(self, name, None) for name in ("instance_id", "model", "daemon"))
        return next(str(name) for name in names if name)

    @property
    def replaces(self) -> tuple[str, ...]:
        """Of a load: instances that it ejects first, among all that it noted."""
        return ()

    def to_json(self) -> dict[str, Any]:
        """Write every field; `from_json` reads it back."""
        return {"action": self.ACTION, **dataclasses.asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load(Command):
    """Load a model. What is None is left to the daemon."""

    ACTION = "load"
    CHANGES_INSTANCES = True

    model: str
    instance_id: str | None = None
    context_length: int | None = None
    ttl_seconds: int | None = None
    gpu_offload: float | str | None = None
    """0 to 1, "max" or "off"."""
    split: str | None = None
    """`strategy` of load.gpuSplitConfig."""
    disabled_gpus: tuple[int, ...] = ()
    gpu_priority: tuple[int, ...] = ()
    gpu_ratio: tuple[float, ...] = ()
    parallel: int | None = None
    flash_attention: bool | None = None
    replace: tuple[str, ...] = ()
    """Instances to eject first."""
    force: bool = False

    @property
    def replaces(self) -> tuple[str, ...]:
        """Instances that it ejects first."""
        return self.replace

    @property
    def sets_split(self) -> bool:
        """Whether anything was said about how to split."""
        return bool(self.split or self.disabled_gpus or self.gpu_priority or self.gpu_ratio)

    def split_config(self) -> dict[str, Any]:
        """Write load.gpuSplitConfig. "evenly" is what getLoadConfig answered where nothing had been set."""
        return {
            "strategy": self.split or "evenly",
            "disabledGpus": list(self.disabled_gpus),
            "priority": list(self.gpu_priority),
            "customRatio": list(self.gpu_ratio),
        }

    def fields(self, namespace: Namespace) -> dict[str, Any]:
        """Write the load configuration's keys for the wire."""
        fields: dict[str, Any] = {}
        if namespace == "embedding":
            if self.context_length is not None:
                fields[EMBEDDING_CONTEXT] = self.context_length
        else:
            if self.context_length is not None or self.gpu_offload is not None:
                fields |= dict.fromkeys(AUTO_FIT, False)
            for key, value in (
                (CONTEXT, self.context_length),
                (OFFLOAD, self.gpu_offload),
                (PARALLEL, self.parallel),
                (FLASH, self.flash_attention),
            ):
                if value is not None:
                    fields[key] = value
        if self.sets_split:
            fields[SPLIT] = self.split_config()
        return fields

    def unsuited(self, namespace: Namespace) -> str | None:
        """Name a parameter that this kind of model has no key for, None when all is well."""
        if namespace == "llm":
            return None
        given = {
            "gpu_offload": self.gpu_offload,
            "parallel": self.parallel,
            "flash_attention": self.flash_attention,
        }
        return next((name for name, value in given.items() if value is not None), None)

    def request(self, namespace: Namespace, device_identifier: str | None) -> LoadRequest:
        """Make what the client sends."""
        return LoadRequest(
            model_key=self.model,
            namespace=namespace,
            identifier=self.instance_id,
            ttl_ms=self.ttl_seconds * 1000 if self.ttl_seconds is not None else None,
            device_identifier=device_identifier,
            fields=self.fields(namespace),
        )

    def differences(self, loaded: InstanceInfo, config: Mapping[str, Any]) -> tuple[str, ...]:
        """Name the parameters in which a loaded instance is not what this command asks for.

        A key that the instance does not report is one its engine does not know: loading again would not change it.
        """
        namespace: Namespace = "embedding" if loaded.type == "embedding" else "llm"
        names = {
            OFFLOAD: "gpu_offload",
            PARALLEL: "parallel",
            FLASH: "flash_attention",
            SPLIT: "split",
        }
        different = [
            name
            for key, name in names.items()
            if (wanted := self.fields(namespace).get(key)) is not None
            and key in config
            and not _same(wanted, config[key])
        ]
        if self.context_length is not None and loaded.context_length is not None:
            most = loaded.max_context_length or self.context_length
            if loaded.context_length != min(self.context_length, most):
                different.append("context_length")
        if self.ttl_seconds is not None and loaded.ttl_ms != self.ttl_seconds * 1000:
            different.append("ttl_seconds")
        return tuple(different)


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
    """Of the reaper: rather leave it than interrupt anybody."""
    reference: str | None = None
    """Of the reaper: the very load that was seen idle."""

    @property
    def is_internal(self) -> bool:
        """Whether the reaper wants it."""
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
    NOT_CANCELLABLE = "the daemon's API has no way to stop a download"

    model: str
    quantization: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe(Command):
    """Chat once with a canned prompt and measure. A model that is not loaded is loaded by the daemon."""

    ACTION = "probe"

    model: str
    force: bool = False


COMMANDS: Final[Mapping[str, type[Command]]] = {
    kind.ACTION: kind for kind in (Load, Eject, EjectAll, Download, Probe)
}


def from_json(stored: Mapping[str, Any]) -> Command:
    """Read back a stored command."""
    kind = COMMANDS[stored["action"]]
    tuples = {
        field.name for field in dataclasses.fields(kind) if str(field.type).startswith("tuple")
    }  # JSON knows lists only
    values: dict[str, Any] = {
        key: tuple(value) if key in tuples else value for key, value in stored.items() if key != "action"
    }
    return kind(**values)


def _same(wanted: Any, actual: Any) -> bool:
    """Compare configuration values; for the offload, "max" is 1 and "off" is 0."""
    numbers = {"max": 1.0, "off": 0.0}
    if isinstance(wanted, str | float | int) and isinstance(actual, str | float | int):
        return bool(numbers.get(str(wanted), wanted) == numbers.get(str(actual), actual))
    return bool(wanted == actual)
