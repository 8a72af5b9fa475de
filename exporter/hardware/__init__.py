"""Reads the host: GPUs, memory, LM Studio's processes on it. Knows no daemon's wire and no metric."""
