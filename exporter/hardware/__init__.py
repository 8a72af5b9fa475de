"""Reads the host: GPUs, memory, LM Studio's processes on it.

Does not depend on the daemon's protocol or on metrics.
"""
