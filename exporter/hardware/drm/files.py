"""Reads small files of sysfs and procfs; a file that cannot be read is None.

A driver may refuse an attribute with any errno (EPERM while it resets, EINVAL for a sensor that is off, EBUSY), so
every errno means the same here: no value now.
"""

import os
from collections.abc import Iterator
from typing import Final

MOST_BYTES: Final = 64 * 1024
"""More than any attribute has (sysfs gives a page, the metrics table of a GPU some KiB)."""


def read_bytes(path: str) -> bytes | None:
    """Read a whole small file, at most MOST_BYTES of it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(descriptor, MOST_BYTES)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def read_text(path: str) -> str | None:
    """Read a file of one value, without the white space around it; None also where it is empty."""
    content = read_bytes(path)
    return None if content is None else content.decode("utf-8", "replace").strip() or None


def read_int(path: str) -> int | None:
    """Read a decimal or 0x number."""
    content = read_bytes(path)
    if content is None:
        return None
    try:
        return int(content, 0)
    except ValueError:
        return None


def scaled(path: str, divisor: float) -> float | None:
    """Read a number and divide it: 1000 for milli, 1e6 for micro."""
    value = read_int(path)
    return None if value is None else value / divisor


def entries(path: str) -> list[str]:
    """List a directory, sorted; empty where it cannot be listed."""
    try:
        return sorted(os.listdir(path))  # noqa: PTH208 - called for every process of the host
    except OSError:
        return []


def numbered(path: str, prefix: str) -> Iterator[str]:
    """Yield the paths of the entries that are `prefix` and a number, in the order of their numbers."""
    found = [name for name in entries(path) if name.startswith(prefix) and name[len(prefix) :].isdigit()]
    for name in sorted(found, key=lambda name: int(name[len(prefix) :])):
        yield f"{path}/{name}"
