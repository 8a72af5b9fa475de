"""Grafana boards, recording rules and alerts, written from the catalogue; a query can only use its metrics."""
