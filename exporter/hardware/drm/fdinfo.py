"""Parses /proc/<pid>/fdinfo/<fd> of a DRM client. Pure.

Source: Documentation/gpu/drm-usage-stats.rst. Engine times are not used: AMD's do not count compute queues, and what is
denied for one process would make the sum wrong.
"""

import re
from dataclasses import dataclass
from typing import Final

_IDENTITY: Final = re.compile(rb"^drm-(driver|pdev|client-id):[ \t]*(\S+)", re.MULTILINE)
_SIZES: Final = {
    kind: re.compile(
        rb"^drm-(shared|" + kind + rb")-(?!cycles-)([^:\s]+):[ \t]*([1-9]\d*)(?:[ \t]+(KiB|MiB|GiB))?[ \t]*$",
        re.MULTILINE,
    )
    for kind in (b"resident", b"memory", b"total")
}
"""By the kind that a driver writes, the first that it has: `resident` is what buffers take now, `memory` its older
name, and `total` counts also what was swapped out. A size of 0 need not be read."""
_UNITS: Final = {b"": 1, b"KiB": 2**10, b"MiB": 2**20, b"GiB": 2**30}
_LOCAL: Final = (b"vram", b"local", b"stolen-local")
"""How the names of device memory begin: vram (amdgpu), vram0 (xe), local0 (i915). All others are host memory."""
_MOST_BYTES: Final = 2**63


@dataclass(frozen=True, slots=True)
class Client:
    """One open DRM file. The same client can show under many descriptors and processes."""

    pci_address: str
    client_id: int
    local_bytes: int
    """Resident device memory, shared buffers included."""
    host_bytes: int
    """Resident host memory that the GPU has mapped, shared buffers included."""
    local_shared_bytes: int
    """The part of it that other clients share."""
    host_shared_bytes: int


def parse(content: bytes) -> Client | None:
    """Read one fdinfo file; None when it is not a DRM client's, or does not name its GPU and client.

    Without a drm-client-id, one client seen twice and two clients look the same.
    """
    identity = dict(_IDENTITY.findall(content))
    client_id = identity.get(b"client-id", b"")
    if b"driver" not in identity or b"pdev" not in identity or not client_id.isdigit():
        return None
    kind = next((kind for kind in _SIZES if b"drm-" + kind in content), b"total")
    local = host = local_shared = host_shared = 0
    for what, region, value, unit in _SIZES[kind].findall(content):
        size = int(value) * _UNITS[unit]
        if region.startswith(_LOCAL):
            if what == b"shared":
                local_shared += size
            else:
                local += size
        elif what == b"shared":
            host_shared += size
        else:
            host += size
    return Client(
        pci_address=identity[b"pdev"].decode("ascii", "replace"),
        client_id=int(client_id),
        local_bytes=min(local, _MOST_BYTES),
        host_bytes=min(host, _MOST_BYTES),
        local_shared_bytes=min(local_shared, local, _MOST_BYTES),
        host_shared_bytes=min(host_shared, host, _MOST_BYTES),
    )
