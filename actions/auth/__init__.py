"""Authentication: bearer tokens, Grafana identities, rate limits."""
