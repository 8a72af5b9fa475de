"""Watches llmster daemons and the machine: state as Prometheus metrics, predictions and logs as OTLP."""
