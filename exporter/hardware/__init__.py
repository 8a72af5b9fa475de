"""Speaks to the machine: GPUs and the host. Knows nothing of llmster."""
