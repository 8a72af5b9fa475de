"""Watches llmster daemons and the host: state as Prometheus metrics, predictions and logs as OTLP."""
