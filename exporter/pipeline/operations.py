"""A finished request that wrote no text: embeddings, or a decision. Only the tap sees these; the log names none."""

from __future__ import annotations

import hashlib

import msgspec


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One request. None: not known."""

    daemon: str
    name: str
    """embeddings or decision."""
    model: str
    start_ns: int
    end_ns: int
    """Unix times."""
    trace_id: int
    span_id: int
    parent_span_id: int | None = None
    """Of the caller's span, in the trace `trace_id`."""
    input_tokens: int | None = None
    error: str | None = None
    """Why it failed, as a class of errors."""
    client: str | None = None


def ids_of(daemon: str, number: int, start_ns: int) -> tuple[int, int]:
    """Give trace and span id of a request that no caller traced; the same for the same request."""
    digest = hashlib.sha256(f"{daemon}\0{number}\0{start_ns}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:16], "big") or 1, int.from_bytes(digest[16:24], "big") or 1
