"""Builds trees of files that look like the kernel's /sys and /proc on hosts with AMD and Intel GPUs.

Written from the kernel's documentation and sources, not copied from a host: what real trees hold beyond that is not in
them. Directories and symbolic links are laid out as the kernel does, because discovery follows them.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

GIB = 1024**3
MIB = 1024**2
AMD, INTEL, NVIDIA = "0x1002", "0x8086", "0x10de"

Files = Mapping[str, str | bytes]


def write(directory: Path, files: Files) -> None:
    """Write attributes below a directory, as one line each where they are text."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else f"{content}\n".encode())


@dataclass(frozen=True, slots=True)
class FakeHost:
    """A host's files below one directory."""

    root: Path

    @property
    def sysfs(self) -> Path:
        """Where /sys would be."""
        return self.root / "sys"

    @property
    def procfs(self) -> Path:
        """Where /proc would be."""
        return self.root / "proc"

    @property
    def share(self) -> Path:
        """Where /usr/share would be."""
        return self.root / "share"

    def add_pci(self, path: str, files: Files, *, driver: str | None = None) -> Path:
        """Add a PCI function at `path` below the root bus: "0000:00:01.1/0000:01:00.0"."""
        function = self.sysfs / "devices" / "pci0000:00" / path
        function.mkdir(parents=True, exist_ok=True)
        write(function, files)
        listed = self.sysfs / "bus/pci/devices" / function.name
        listed.parent.mkdir(parents=True, exist_ok=True)
        if not listed.is_symlink():
            listed.symlink_to(function)
        if driver is not None:
            drivers = self.sysfs / "bus/pci/drivers" / driver
            drivers.mkdir(parents=True, exist_ok=True)
            (function / "driver").symlink_to(drivers)
        return function

    def add_node(self, number: int, device: Path) -> Path:
        """Add the DRM node card`number` of a device."""
        node = device / "drm" / f"card{number}"
        node.mkdir(parents=True)
        (node / "device").symlink_to(device)
        listed = self.sysfs / "class/drm" / node.name
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.symlink_to(node)
        (listed.parent / f"{node.name}-DP-1").mkdir()  # a connector, which is no GPU
        return node

    def add_gpu(
        self,
        number: int,
        path: str,
        driver: str,
        device_files: Files,
        hwmon: Files,
        *,
        node_files: Files | None = None,
    ) -> Path:
        """Add a GPU with its driver, sensors and node; gives the path of its PCI function."""
        device = self.add_pci(
            path, {"class": "0x030000", "power/runtime_status": "active", **device_files}, driver=driver
        )
        write(device, {"config": bytes.fromhex(_id(device_files, "vendor") + _id(device_files, "device"))})
        if hwmon:
            write(device / "hwmon" / f"hwmon{number + 3}", {"name": driver, **hwmon})
        write(self.add_node(number, device), node_files or {})
        return device

    def add_process(self, pid: int, *clients: str, other_files: int = 3, command: str = "process") -> None:
        """Add a process that holds one DRM file for each text of an fdinfo, and other files."""
        process = self.procfs / str(pid)
        (process / "fd").mkdir(parents=True)
        (process / "fdinfo").mkdir()
        (process / "cmdline").write_bytes(command.encode() + b"\0")
        for fd in range(other_files):
            (process / "fd" / str(fd)).symlink_to("socket:[4711]")
            (process / "fdinfo" / str(fd)).write_text("pos:\t0\nflags:\t02\n")
        self.add_files(pid, *clients)

    def add_files(self, pid: int, *clients: str) -> None:
        """Let a process open DRM files."""
        process = self.procfs / str(pid)
        first = len(list((process / "fd").iterdir()))
        for fd, text in enumerate(clients, first):
            (process / "fd" / str(fd)).symlink_to("/dev/dri/renderD128")
            (process / "fdinfo" / str(fd)).write_text(text)

    def end_process(self, pid: int) -> None:
        """Take a process away."""
        shutil.rmtree(self.procfs / str(pid))


def _id(files: Files, name: str) -> str:
    """Write a PCI id as the configuration space has it, low byte first."""
    text = str(files[name]).removeprefix("0x")
    return text[2:] + text[:2]
