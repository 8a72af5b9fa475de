"""The tap: a transparent relay in front of the daemon that reads a copy of what passes through it."""
