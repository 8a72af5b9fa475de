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
