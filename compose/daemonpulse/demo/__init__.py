"""The demo: a simulated daemon and GPUs, the exporter, the actions API, and the stack's programs that are installed."""
