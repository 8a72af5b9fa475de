"""Turns llmster state into Prometheus metrics. This package imports nothing."""
