"""The commands `daemonpulse actions ...`."""
