"""Grafana boards, recording rules and alerts, written from the catalogue: what it does not hold cannot be asked."""
