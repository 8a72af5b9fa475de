"""Hosts with AMD and Intel GPUs, as files: tree lays them out, gpus fills them in, kernel writes as drivers do."""
