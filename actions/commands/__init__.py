"""Commands for daemons: load, eject, download, probe; their recovery, and the reconciler of desired state."""
