"""The simulated host: GPUs and the daemon's home folder."""
