"""What the drivers write into files: the fdinfo of a DRM file, and the binary metrics of an AMD GPU."""

import struct
from collections.abc import Mapping


def amd_client(
    pci_address: str,
    client_id: int,
    *,
    vram_kib: int,
    gtt_kib: int = 0,
    shared_kib: int = 0,
    shared_gtt_kib: int = 0,
) -> str:
    """The fdinfo of a file of amdgpu, Linux 6.13 and newer."""
    return (
        "pos:\t0\nflags:\t02100002\nmnt_id:\t26\nino:\t622\ndrm-driver:\tamdgpu\n"
        f"drm-client-id:\t{client_id}\ndrm-pdev:\t{pci_address}\npasid:\t32770\n"
        f"drm-total-cpu:\t0\ndrm-shared-cpu:\t0\ndrm-resident-cpu:\t0\n"
        f"drm-total-gtt:\t{gtt_kib} KiB\ndrm-shared-gtt:\t{shared_gtt_kib} KiB\ndrm-resident-gtt:\t{gtt_kib} KiB\n"
        f"drm-total-vram:\t{vram_kib} KiB\ndrm-shared-vram:\t{shared_kib} KiB\ndrm-resident-vram:\t{vram_kib} KiB\n"
        f"drm-memory-vram:\t{vram_kib} KiB\ndrm-memory-gtt:\t{gtt_kib} KiB\ndrm-memory-cpu:\t0 KiB\n"
        "amd-evicted-vram:\t0 KiB\namd-requested-vram:\t0 KiB\ndrm-engine-compute:\t1234567 ns\n"
    )


def old_amd_client(pci_address: str, client_id: int, *, vram_kib: int) -> str:
    """The fdinfo of a file of amdgpu before Linux 6.13: drm-memory only."""
    return (
        "pos:\t0\nflags:\t02100002\nmnt_id:\t26\nino:\t622\npasid:\t32770\ndrm-driver:\tamdgpu\n"
        f"drm-pdev:\t{pci_address}\ndrm-client-id:\t{client_id}\n"
        f"drm-memory-vram:\t{vram_kib} KiB\ndrm-memory-gtt: \t2048 KiB\ndrm-memory-cpu: \t0 KiB\n"
        "amd-memory-visible-vram:\t1024 KiB\n"
    )


def xe_client(pci_address: str, client_id: int, *, vram_kib: int, gtt_kib: int = 192) -> str:
    """The fdinfo of a file of xe, as drivers/gpu/drm/xe/xe_drm_client.c documents it."""
    return (
        f"pos:    0\nflags:  0100002\nmnt_id: 26\nino:    685\ndrm-driver:     xe\ndrm-client-id:  {client_id}\n"
        f"drm-pdev:       {pci_address}\ndrm-total-system:       0\ndrm-shared-system:      0\n"
        f"drm-active-system:      0\ndrm-resident-system:    0\ndrm-purgeable-system:   0\n"
        f"drm-total-gtt:  {gtt_kib} KiB\ndrm-shared-gtt: 0\ndrm-active-gtt: 0\ndrm-resident-gtt:       {gtt_kib} KiB\n"
        f"drm-total-vram0:        {vram_kib} KiB\ndrm-shared-vram0:       0\ndrm-active-vram0:       0\n"
        f"drm-resident-vram0:     {vram_kib} KiB\ndrm-cycles-rcs: 28257900\ndrm-total-cycles-rcs:   7655183225\n"
    )


def metrics_table(version: tuple[int, int], size: int, fields: Mapping[int, int]) -> bytes:
    """A gpu_metrics table of a version: all ones, and 64-bit fields by offset."""
    table = bytearray(b"\xff" * size)
    struct.pack_into("<HBB", table, 0, size, *version)
    for offset, value in fields.items():
        struct.pack_into("<Q", table, offset, value)
    return bytes(table)
