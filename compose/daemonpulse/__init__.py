"""The `daemonpulse` command: composes the parts for a person at a terminal."""
