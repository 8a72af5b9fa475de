"""The Grafana dashboards (not built yet)."""
