"""One file per Grafana board."""
