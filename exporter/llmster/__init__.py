"""Speaks to the daemon: wire protocol, REST, typed state. Knows neither Prometheus nor OpenTelemetry."""
