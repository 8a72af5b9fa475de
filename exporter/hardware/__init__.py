"""Speaks to the machine: GPUs, the host, LM Studio's processes on it. Knows no daemon's wire and no metric."""
