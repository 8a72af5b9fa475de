"""Reads what amdkfd, the compute part of the AMD driver, exposes to every user: partitions and memory of processes.

Source: drivers/gpu/drm/amd/amdkfd/kfd_topology.c (/sys/class/kfd/kfd/topology/nodes) and kfd_process.c
(/sys/class/kfd/kfd/proc/<pid>/vram_<gpu id>). Both are readable without any right over the processes.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from exporter.hardware.drm.files import numbered, read_int, read_text
from exporter.hardware.gpus import GpuProcess, Memory, MigInstance


@dataclass(frozen=True, slots=True)
class Node:
    """One GPU to ROCm: a whole one, or a partition of one."""

    path: str
    gpu_id: int
    bus: tuple[int, int, int]
    """Domain, bus and device of the PCI function. Its function number may be a partition's, in older kernels."""


def find_nodes(sysfs: str) -> list[Node]:
    """List the nodes that compute; the others are processors."""
    found = (_node(path) for path in numbered(f"{sysfs}/class/kfd/kfd/topology/nodes", ""))
    return [node for node in found if node is not None]


def nodes_of(pci_address: str, nodes: Iterable[Node]) -> list[Node]:
    """Choose the nodes of one GPU, in the order of its partitions."""
    domain, bus, device = (int(part, 16) for part in pci_address.partition(".")[0].split(":"))
    return [node for node in nodes if node.bus == (domain, bus, device)]


def partitions(nodes: Iterable[Node], mode: str) -> tuple[MigInstance, ...]:
    """Describe the partitions of one GPU in the terms of MIG. In NPS1 they share all its memory."""
    return tuple(
        MigInstance(
            index=index,
            uuid=None,
            name=f"{mode} {index}",
            gpu_instance_id=index,
            compute_instance_id=None,
            memory=_memory(node.path),
        )
        for index, node in enumerate(nodes)
    )


def processes(sysfs: str, nodes: Iterable[Node]) -> tuple[GpuProcess, ...]:
    """List the compute processes that hold memory on these nodes, by pid."""
    ids = [node.gpu_id for node in nodes]
    found: list[GpuProcess] = []
    for path in numbered(f"{sysfs}/class/kfd/kfd/proc", ""):
        sizes = [size for gpu_id in ids if (size := read_int(f"{path}/vram_{gpu_id}"))]
        if sizes:
            found.append(GpuProcess(int(path.rpartition("/")[2]), sum(sizes)))
    return tuple(sorted(found, key=lambda process: process.pid))


def _node(path: str) -> Node | None:
    properties = _properties(path)
    gpu_id, location = read_int(f"{path}/gpu_id"), properties.get("location_id", 0)
    if not gpu_id or not properties.get("simd_count"):
        return None
    return Node(path, gpu_id, (properties.get("domain", 0), location >> 8 & 0xFF, location >> 3 & 0x1F))


def _memory(path: str) -> Memory | None:
    total = used = 0
    known = True
    for bank in numbered(f"{path}/mem_banks", ""):
        total += _properties(bank).get("size_in_bytes", 0)
        taken = read_int(f"{bank}/used_memory")
        known = known and taken is not None
        used += taken or 0
    return Memory(total, used, max(total - used, 0)) if total and known else None


def _properties(path: str) -> dict[str, int]:
    """Read a file of lines like `simd_count 304`; what is no number is left out."""
    words = [line.partition(" ") for line in (read_text(f"{path}/properties") or "").splitlines()]
    return {name: int(value) for name, _, value in words if value.isdigit()}
