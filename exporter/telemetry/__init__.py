"""OTLP sinks: spans and logs."""
