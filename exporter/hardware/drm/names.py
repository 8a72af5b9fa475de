"""Names a GPU by its product name, from the lists that distributions install, else by its PCI ids.

amdgpu.ids comes with libdrm and tells revisions of one chip apart; pci.ids comes with pciutils or hwdata.
"""

from typing import Final

from exporter.hardware.drm.files import read_int, read_text

_AMD_NAMES: Final = "libdrm/amdgpu.ids"
_PCI_NAMES: Final = ("hwdata/pci.ids", "misc/pci.ids")
_VENDORS: Final = {0x1002: "AMD", 0x8086: "Intel"}


def product_name(device: str, share: str) -> str:
    """Name the GPU at this PCI function; never empty."""
    vendor, chip = read_int(f"{device}/vendor") or 0, read_int(f"{device}/device") or 0
    revision = read_int(f"{device}/revision") or 0
    return (
        read_text(f"{device}/product_name")  # from the board's own memory, on data-centre GPUs
        or _amd_name(f"{share}/{_AMD_NAMES}", chip, revision)
        or next((name for path in _PCI_NAMES if (name := _pci_name(f"{share}/{path}", vendor, chip))), None)
        or f"{_VENDORS.get(vendor, 'GPU')} {vendor:04x}:{chip:04x}"
    )


def _amd_name(path: str, chip: int, revision: int) -> str | None:
    """Look up a line like `744C,	C8,	AMD Radeon RX 7900 XTX`."""
    for line in _lines(path):
        ids, _, name = line.replace("\t", "").partition(f"{chip:04X},{revision:02X},")
        if not ids and name:
            return name.strip()
    return None


def _pci_name(path: str, vendor: int, chip: int) -> str | None:
    """Look up `<tab>56a0  DG2 [Arc A770]` below the line of the vendor."""
    inside = False
    for line in _lines(path):
        if line.startswith(("#", "\t\t")):
            continue
        if not line.startswith("\t"):
            inside = line.startswith(f"{vendor:04x} ")
        elif inside and line.startswith(f"\t{chip:04x} "):
            return f"{_VENDORS.get(vendor, '')} {line[5:].strip()}".strip()
    return None


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - paths are strings here
            return file.read().splitlines()
    except OSError:
        return []
