"""OTLP sinks: predictions as spans, log events as records. Telemetry fails open: nothing here may stop the rest."""
