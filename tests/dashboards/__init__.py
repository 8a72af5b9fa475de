"""The boards, rules and alerts: judged by Grafana's types, a real Prometheus, promtool, and rules of our own."""
