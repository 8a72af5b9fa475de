"""A host whose /sys and /proc are files of the test, and our source of readings on it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.hardware.drm.source import DrmSource
from exporter.hardware.host import HostMemory
from tests.fake_drm.tree import GIB, FakeHost


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    host = FakeHost(tmp_path)
    host.procfs.mkdir()
    return host


@pytest.fixture
def source(host: FakeHost, clock: Clock) -> DrmSource:
    return DrmSource(
        sysfs=str(host.sysfs),
        procfs=str(host.procfs),
        share=str(host.share),
        host_memory=lambda: HostMemory(total_bytes=128 * GIB, available_bytes=30 * GIB),
        clock=clock,
    )


Deny = Callable[[int], None]


@pytest.fixture
def deny(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> Deny:
    """Let a process be another user's: the kernel refuses to list its descriptors. Works for root, too."""
    denied: set[str] = set()
    listdir = os.listdir

    def guarded(path: str) -> list[str]:
        if path in denied:
            raise PermissionError(13, "Permission denied", path)
        return listdir(path)

    monkeypatch.setattr("os.listdir", guarded)
    return lambda pid: denied.add(f"{host.procfs}/{pid}/fd")
