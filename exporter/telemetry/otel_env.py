"""Pure: what the standard OTEL_* variables say about receivers. Imports nothing of the SDK, which costs memory."""

from __future__ import annotations

import os
from collections.abc import Mapping


def wanted(signal: str, environ: Mapping[str, str] = os.environ) -> tuple[bool, str]:
    """Return whether a signal (TRACES or LOGS) has a receiver, and its protocol.

    Source: OpenTelemetry's environment variable specification.
    """
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
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
