"""AMD and Intel GPUs through the kernel's own files: sysfs for the GPU, DRM fdinfo for its processes. No library."""
