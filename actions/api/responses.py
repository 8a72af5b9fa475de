"""The shapes of answers, for the OpenAPI document only: answers are written by hand and tested against these.

Knows no route.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from actions.domain.errors import MEDIA_TYPE


class ProblemDocument(BaseModel):
    """RFC 9457. Further members hold the numbers behind it."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:daemonpulse:problem:does-not-fit"])
    title: str
    status: int
    detail: str


class OperationDocument(BaseModel):
    """What came, or will come, of a command."""

    id: str
    daemon: str
    action: str
    subject: str
    state: Literal["pending", "running", "done", "failed", "cancelled"]
    phase: str | None
    progress: float | None = Field(description="0 to 1.")
    actor: str
    person: str | None
    parameters: dict[str, Any]
    result: dict[str, Any] | None
    problem: dict[str, Any] | None
    created_ms: int
    finished_ms: int | None


class PreflightDocument(BaseModel):
    """Whether a load fits, and every number behind the verdict."""

    verdict: Literal["fits", "tight", "does_not_fit", "unknown"]
    reasons: list[str]
    estimate: dict[str, Any] | None = Field(description="The daemon's own.")
    learned: dict[str, Any] | None = Field(description="What past loads took, over the estimate.")
    needed_bytes: int | None
    memory_source: str | None
    gpus: list[dict[str, Any]]
    holders: list[dict[str, Any]] = Field(description="Who holds the rest.")
    eject_would_free: list[dict[str, Any]]


class FitGpu(BaseModel):
    """One GPU in an answer to `fit`; bytes."""

    index: int
    name: str | None
    free_bytes: int
    freed_bytes: int = Field(description="By the ejects that are proposed.")
    needed_bytes: int


class FittingContext(BaseModel):
    """A context and what it needs; bytes."""

    context_length: int
    estimate_bytes: int = Field(description="The daemon's own.")
    expected_bytes: int = Field(description="Corrected by past loads.")
    needed_bytes: int = Field(description="At most, as far as past loads tell; what was compared.")
    gpus: list[FitGpu]


class WantedContext(FittingContext):
    """The context that does not fit now."""

    evict: list[str] | None = Field(description="What would have to go; null when that does not help.")
    is_minimal: bool | None


class KeptInstance(BaseModel):
    """An instance that is never proposed for an eject."""

    instance_id: str
    why: Literal["pinned", "busy", "state unknown", "memory unknown"]


class FitDocument(BaseModel):
    """Which context fits now, and what would have to go for more."""

    model: str
    fits: bool
    now: FittingContext | None = Field(description="The longest context that fits now.")
    wanted: WantedContext | None = Field(description="The context asked for, else the model's maximum.")
    kept: list[KeptInstance]
    max_context_length: int | None
    parallel: int | None
    samples: int = Field(description="Past loads of the model that corrected the estimate.")
    estimates: int = Field(description="Estimates that this cost the daemon.")
    max_estimates: int
    memory_source: str


def errors(told: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """Say what each status means: those of every route, and those of these."""
    every = {
        400: "The request cannot be read",
        401: "A token is needed",
        413: "The body is too large",
        421: "The Host header is not one of ours",
        422: "A parameter is not right; it is named",
        429: "Too many wrong tokens, or too many commands",
        **told,
    }
    return {
        status: {"model": ProblemDocument, "content": {MEDIA_TYPE: {}}, "description": what}
        for status, what in sorted(every.items())
    }
