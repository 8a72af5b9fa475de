"""The daemon's own words in its log: known lines without content, fatal lines, HTTP requests.

Source: published captures and bug reports; each pattern is bounded and matches whole lines or their beginning.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

_RAN: Final = r"The model has crashed without additional information\. \(Exit code: (?P<code>-?\w{1,24})\)"
_CRASH: Final = re.compile(
    rf"(?:Error: )?(?:{_RAN}|Engine protocol runtime [\w.-]{{1,64}} for (?P<reference>[^\n]{{1,256}}) "
    r"exited before becoming healthy\. exitCode=(?P<exit>-?\w{1,24}))",
    re.ASCII,
)
"""The end stays open, because releases differ: `. Error Data: n/a, Additional Data: n/a` and `, signal=null`."""
_CRASH_REST: Final = re.compile(
    r"(?:\.(?: Error Data: n/a, Additional Data: n/a)?)?|, signal=\w{1,16}", re.ASCII
)
_CRASH_REFERENCE: Final = re.compile(r"[\w./@:-]{1,128}", re.ASCII)

_KNOWN: Final = re.compile(
    r"Running chat completion on conversation with \d{1,9} messages\."
    r"|Prompt processing progress: \d{1,3}(?:\.\d{1,9})?%"
    r"|Client disconnected\. Stopping generation\.\.\."
    r" \(If the model is busy processing the prompt, it will finish first\.\)"
    r"|Finished streaming response"
    r"|Success! HTTP server listening on port \d{1,5}(?: \| Just-in-time model loading active\.)?"
    r"|stderr: env: [\w.-]{1,32}: No such file or directory",
    re.ASCII,
)

CACHE_RESTORE: Final = re.compile(
    r"Prompt cache restore: cached_tokens=(?P<cached>\d{1,9}) uncached_tokens=(?P<uncached>\d{1,9})"
    r"(?: lifetime_efficiency=\d{1,3}(?:\.\d{1,9})?%)?",
    re.ASCII,
)
"""Source: LM Studio bug tracker 2419, mlx-engine. Level and stream vary."""

CACHE_REUSE: Final = re.compile(
    r"Cache reuse summary: (?P<cached>\d{1,9})/(?P<prompt>\d{1,9}) of prompt \(\d{1,3}%\), "
    r"\d{1,9} prefix, \d{1,9} non-prefix",
    re.ASCII,
)
"""Source: LM Studio bug tracker 778, the in-process llama.cpp engine of 0.3."""

_REQUEST: Final = re.compile(
    r"Received request: (?P<method>[A-Z]{3,7}) to (?P<path>/[^\s?]{0,512})", re.ASCII
)
_UNEXPECTED: Final = re.compile(
    r"Unexpected endpoint or method\. \((?P<method>[A-Z]{3,7}) (?P<path>/[^\s?)]{0,512})[^\n]{0,512}\)\. "
    r"Returning (?P<status>[1-5]\d\d) anyway",
    re.ASCII,
)
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"})
_ROUTES: Final = frozenset(
    f"{base}{path}"
    for base, paths in {
        "/v1": ("/chat/completions", "/completions", "/embeddings", "/models", "/responses", "/messages",
                "/decisions", "/systemone"),
        "/api/v0": ("/chat/completions", "/completions", "/embeddings", "/models"),
        "/api/v1": ("/chat", "/models", "/models/load", "/models/unload", "/models/download"),
    }.items()
    for path in paths
)  # fmt: skip
"""Documented routes. Any other path becomes `other`: a path is text from a client."""


class HttpLine(msgspec.Struct, frozen=True, gc=False):
    """A request as server.log tells of it. `status` None: the line says none."""

    method: str
    route: str
    status: str | None


class CrashLine(msgspec.Struct, frozen=True, gc=False):
    """A fatal line."""

    exit_code: int | None
    was_running: bool
    """False: the engine never became healthy, so a load failed."""


def read_crash(line: str) -> CrashLine | None:
    """Read a fatal line; None for any other."""
    match = _CRASH.match(line)
    if match is None:
        return None
    code = match["code"] or match["exit"]
    return CrashLine(int(code) if code.lstrip("-").isdecimal() else None, match["code"] is not None)


def read_http(line: str) -> HttpLine | None:
    """Read a line about an HTTP request; None for any other."""
    if line.startswith("Received request: "):
        match = _REQUEST.match(line)
        status = None
    elif line.startswith("Unexpected endpoint"):
        match = _UNEXPECTED.match(line)
        status = match["status"] if match else None
    else:
        return None
    if match is None:
        return None
    method, path = match["method"], match["path"].rstrip("/")
    if path.startswith("/api/v1/models/download/status/"):
        path = "/api/v1/models/download/status"
    route = path if path in _ROUTES or path == "/api/v1/models/download/status" else "other"
    return HttpLine(method if method in _METHODS else "other", route, status)


def is_known(line: str) -> bool:
    """Whether a line of server.log, its stamp aside, holds nothing but the daemon's own words."""
    return _KNOWN.fullmatch(line) is not None or is_known_to_engines(line)


def is_known_to_engines(line: str) -> bool:
    """Whether a line is one of those that the daemon writes about an engine, whole and without content."""
    if CACHE_RESTORE.fullmatch(line) or CACHE_REUSE.fullmatch(line):
        return True
    match = _CRASH.match(line)
    return (
        match is not None
        and _CRASH_REST.fullmatch(line, match.end()) is not None
        and (match["reference"] is None or _CRASH_REFERENCE.fullmatch(match["reference"]) is not None)
    )
