"""Pure: turns DRM clients into how much memory each process holds on each GPU, every buffer counted once.

A client under several descriptors or processes (an inherited file) belongs to the lowest pid. A buffer that several
clients share is in the resident size of each; it is counted for the client that shares most.
"""

from collections import Counter
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from exporter.hardware.drm.fdinfo import Client
from exporter.hardware.gpus import GpuProcess


def memory_by_process(
    clients: Iterable[tuple[int, Client]], *, integrated: AbstractSet[str]
) -> dict[str, tuple[GpuProcess, ...]]:
    """Sum memory by GPU (PCI address) and process, in the order of pids.

    `integrated` are the GPUs whose device memory is the host's: there its mapped part counts too.
    """
    owners: dict[tuple[str, int], tuple[int, Client]] = {}
    for pid, client in clients:
        key = (client.pci_address, client.client_id)
        seen = owners.get(key)
        if seen is None or pid < seen[0]:
            owners[key] = pid, client
    held: dict[str, Counter[int]] = {}
    shared: dict[str, tuple[int, int]] = {}
    for (gpu, _), (pid, client) in owners.items():
        resident, common = client.local_bytes, client.local_shared_bytes
        if gpu in integrated:
            resident, common = resident + client.host_bytes, common + client.host_shared_bytes
        held.setdefault(gpu, Counter())[pid] += resident - common
        if common > shared.get(gpu, (0, 0))[0]:
            shared[gpu] = common, pid
    for gpu, (size, pid) in shared.items():
        held[gpu][pid] += size
    return {
        gpu: tuple(GpuProcess(pid, memory_bytes=size) for pid, size in sorted(sizes.items()))
        for gpu, sizes in held.items()
    }
