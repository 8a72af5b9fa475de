"""One option of a load: API field, CLI flag, wire key, values, default.

load_keys.py is the table of options.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from exporter.llmster.commands import Namespace

Kind = Literal["int", "number", "bool", "choice", "ratio", "indices", "shares", "text", "words", "pairs"]
LISTS: Final = frozenset({"indices", "shares", "words", "pairs"})
"""Kinds that are lists; words and pairs (NAME=VALUE) hold text that may have commas."""

SPLIT: Final = "load.gpuSplitConfig"
ARGUMENTS: Final = "llm.load.llama.argumentsOverride"
MLX_KV: Final = "llm.load.mlx.kvCacheQuantization"
OBJECTS: Final = (SPLIT, ARGUMENTS, MLX_KV)
"""Wire keys whose value is one object made of several options; load_options.py writes it."""

UNKNOWN: Final = object()
"""A default that depends on the host or the model."""


@dataclass(frozen=True, slots=True)
class LoadKey:
    """One option of a load."""

    parameter: str
    kind: Kind
    help: str
    _: KW_ONLY
    llm: str | None = None
    """Wire key for an LLM; None when it has none."""
    embedding: str | None = None
    """Wire key for an embedding model."""
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    unchecked: Any = None
    """Of a key with a switch, `{checked, value}`: the value sent with unchecked. The option also accepts "off"."""
    default: Any = UNKNOWN
    """The schema's default for a missing key; UNKNOWN where it depends on the host."""
    is_manual: bool = False
    """Whether it switches autoFit off, under which it would be a mere default."""
    needs_admin: bool = False
    """Whether it can do more to the daemon's host than load a model."""
    flag: str = ""
    sets: tuple[str, ...] = ()
    """Options that it stands for."""

    @property
    def cli_flag(self) -> str:
        """The flag of the command line."""
        return self.flag or "--" + self.parameter.replace("_", "-")

    @property
    def values(self) -> tuple[str, ...]:
        """What a choice can be; "off" is the switch of a key that has one."""
        return (*self.choices, "off") if self.unchecked is not None else self.choices

    @property
    def is_part(self) -> bool:
        """Whether it is one of several options that are one object on the wire."""
        return self.llm in OBJECTS

    def wire(self, namespace: Namespace) -> str | None:
        """Name the wire key for a kind of model; None when it has none."""
        return self.llm if namespace == "llm" else self.embedding

    def encoded(self, value: Any) -> Any:
        """Write a value as the wire has it."""
        if self.unchecked is None:
            return value
        off = value == "off"
        return {"checked": not off, "value": self.unchecked if off else value}
