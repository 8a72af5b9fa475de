"""The daemon's client: wire protocol, REST, typed state. Does not depend on Prometheus or OpenTelemetry."""
