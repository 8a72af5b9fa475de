"""Reads the receivers of the standard OTEL_* variables. Pure. Does not import the SDK, which costs memory."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from exporter.shared import urls
from exporter.shared.settings_table import SettingsError, choice, existing_file

_OTLP: Final = "OTEL_EXPORTER_OTLP_"
_PARTS: Final = ("", "TRACES_", "LOGS_", "METRICS_")
CONTENT_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_CONTENT: Final = {
    "": (False, False),
    "NO_CONTENT": (False, False),
    "FALSE": (False, False),
    "SPAN_ONLY": (True, False),
    "EVENT_ONLY": (False, True),
    "SPAN_AND_EVENT": (True, True),
    "TRUE": (True, True),
}
_PROTOCOLS: Final = ("http/protobuf", "grpc")
_COMPRESSIONS: Final = ("none", "gzip", "deflate")
_FILES: Final = ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")
_MILLISECONDS: Final = ("OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT")
_HEADER: Final = re.compile(r"\s*[!#-'*+\-.0-9A-Z^-z|~]+\s*=[ -~]*")
"""A header's name, `=` and its value. Source: the SDK's own reading (opentelemetry.util.re)."""


def check(environ: Mapping[str, str] = os.environ) -> None:
    """Refuse what the SDK would only warn about at each export, or replace by a default. Raises SettingsError.

    Source: OpenTelemetry's specification of the OTLP exporter's variables. gRPC takes host:port without a scheme, too.
    """
    if _is_disabled(environ):
        return
    content_wanted(environ)
    for part in _PARTS:
        protocol = _check_receiver(f"{_OTLP}{part}", environ)
        _check_request(f"{_OTLP}{part}", protocol, environ)
    for key in _MILLISECONDS:
        text = environ.get(key, "").strip()
        if text and milliseconds(key, 0, environ) == 0:
            raise SettingsError(key=key, value=text, fix="write a number of milliseconds, such as 60000")


def _is_disabled(environ: Mapping[str, str]) -> bool:
    return environ.get("OTEL_SDK_DISABLED", "").lower() == "true"


def _check_receiver(prefix: str, environ: Mapping[str, str]) -> str:
    """Check how and where a receiver is asked; return the protocol that holds for it."""
    protocol = environ.get(key := f"{prefix}PROTOCOL", "")
    if protocol not in ("", *_PROTOCOLS):
        raise SettingsError(key=key, value=protocol, fix=f"choose one of {', '.join(_PROTOCOLS)}")
    if protocol == "grpc" and not _has_grpc():
        fix = "needs the extra `grpc` of daemonpulse; http/protobuf, at port 4318, needs nothing"
        raise SettingsError(key=key, value=protocol, fix=fix)
    protocol = protocol or environ.get(f"{_OTLP}PROTOCOL", "")
    endpoint = environ.get(key := f"{prefix}ENDPOINT", "")
    if endpoint and not is_endpoint(endpoint, protocol):
        shown = "" if "@" in endpoint else endpoint
        fix = "write http://host:4318 (http/protobuf) or http://host:4317 (grpc)"
        raise SettingsError(key=key, value=shown, fix=fix)
    return protocol


def _check_request(prefix: str, protocol: str, environ: Mapping[str, str]) -> None:
    """Check what goes with each request."""
    timeout = environ.get(key := f"{prefix}TIMEOUT", "").strip()
    if timeout and not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", timeout):
        raise SettingsError(key=key, value=timeout, fix="write a number of seconds, such as 10")
    compression = environ.get(key := f"{prefix}COMPRESSION", "").strip().lower()
    if compression:
        choice(compression, key, choices=("gzip",) if protocol == "grpc" else _COMPRESSIONS)
    headers = environ.get(key := f"{prefix}HEADERS", "")
    if not all(_HEADER.fullmatch(header) for header in headers.split(",") if header.strip()):
        # The SDK would write a value that it cannot read, a password perhaps, into the log.
        raise SettingsError(key=key, value="", fix="write name=value, and commas between several")
    for file in _FILES:
        path = environ.get(key := f"{prefix}{file}", "")
        if path:
            existing_file(path, key)


def _has_grpc() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.grpc") is not None
    except ModuleNotFoundError:  # not even the packages above it
        return False


def is_endpoint(text: str, protocol: str) -> bool:
    """Tell whether a receiver can be asked at an address."""
    if "@" in text:
        return False
    return urls.is_http(text) or (protocol == "grpc" and "/" not in text and urls.is_http(f"http://{text}"))


def receivers(environ: Mapping[str, str] = os.environ) -> Iterator[tuple[str, str, int]]:
    """Give each receiver that is named: its variable, its host and its port. To be checked by check() before."""
    for part in _PARTS if not _is_disabled(environ) else ():
        endpoint = environ.get(key := f"{_OTLP}{part}ENDPOINT", "")
        if endpoint:
            parts = urlsplit(endpoint if "//" in endpoint else f"http://{endpoint}")
            yield key, parts.hostname or "", urls.port_of(parts)


def wanted(signal: str, environ: Mapping[str, str] = os.environ) -> tuple[bool, str]:
    """Return whether a signal (TRACES, LOGS or METRICS) has a receiver, and its protocol.

    Source: OpenTelemetry's environment variable specification.
    """
    if _is_disabled(environ):
        return False, ""
    endpoint = environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT") or environ.get(
        "OTEL_EXPORTER_OTLP_ENDPOINT"
    )
    protocol = environ.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL") or environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL"
    )
    chosen_off = environ.get(f"OTEL_{signal}_EXPORTER", "").lower() == "none"
    return bool(endpoint) and not chosen_off, protocol or "http/protobuf"


def are_configured(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether the environment names any receiver."""
    return wanted("TRACES", environ)[0] or wanted("LOGS", environ)[0]


def metrics_wanted(environ: Mapping[str, str] = os.environ) -> tuple[bool, str]:
    """Return whether metrics are pushed, and by which protocol.

    An endpoint for metrics is enough. The common endpoint alone is not, because most who set it for traces scrape the
    exporter already: OTEL_METRICS_EXPORTER=otlp is needed, too.
    """
    is_wanted, protocol = wanted("METRICS", environ)
    is_own = bool(environ.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"))
    return is_wanted and (is_own or environ.get("OTEL_METRICS_EXPORTER", "").lower() == "otlp"), protocol


def content_wanted(environ: Mapping[str, str] = os.environ) -> tuple[bool, bool]:
    """Return whether the standard variable lets content out on spans, and in the records of predictions.

    Source: CONTENT_VARIABLE of OpenTelemetry's GenAI instrumentations; `true` is their older way to ask for all.
    Raises SettingsError.
    """
    value = environ.get(CONTENT_VARIABLE, "").strip().upper()
    if value not in _CONTENT:
        raise SettingsError(
            key=CONTENT_VARIABLE, value=value[:32], fix=f"choose one of {', '.join(_CONTENT)[2:]}"
        )
    return _CONTENT[value]


def milliseconds(name: str, default: int, environ: Mapping[str, str] = os.environ) -> int:
    """Read a duration of the specification; the default where it is missing or no positive whole number."""
    text = environ.get(name, "").strip()
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text) < 1 << 31 else default
