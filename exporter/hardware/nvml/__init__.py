"""NVIDIA GPUs through NVML (pynvml)."""
