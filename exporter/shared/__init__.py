"""What the exporter and the actions API share: HTTP serving, TLS, basic auth, URLs, logs, terminal output."""
