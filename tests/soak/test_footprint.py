"""The measure finds what it is there to find, and nothing where there is nothing."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.soak.footprint import Curve, Limits

ROOT = Path(__file__).parent.parent.parent
EVENTS = 5_000


def measured(work: Callable[[], object]) -> list[str]:
    """Warm up with the work, do it once more, and name what grew."""
    # This process has run other tests, whose memory comes and goes.
    curve = Curve("seeded", Limits(rss_mb=32.0))
    work()
    for label in ("start", "warm"):
        curve.sample(label)
    work()
    curve.sample("end")
    return [leak.split()[1] for leak in curve.leaks()]


def test_work_that_keeps_nothing_is_flat() -> None:
    assert measured(lambda: [str(number) for number in range(EVENTS)]) == []


def test_a_string_kept_per_event_shows_in_blocks_though_the_collector_does_not_follow_it() -> None:
    kept: list[str] = []
    assert measured(lambda: kept.extend(f"event {number}" for number in range(EVENTS))) == ["blocks"]


def test_a_list_kept_per_event_shows_in_objects() -> None:
    kept: list[list[int]] = []
    assert "objects" in measured(lambda: kept.extend([] for _ in range(EVENTS)))


def test_a_large_buffer_shows_in_resident_memory() -> None:
    kept: list[bytes] = []
    assert measured(lambda: kept.append(b"\x01" * 100_000_000)) == ["rss_mb"]


def test_a_socket_that_nobody_closes_shows_in_descriptors() -> None:
    kept: list[socket.socket] = []
    found = measured(lambda: kept.append(socket.socket()))
    for one in kept:
        one.close()
    assert found == ["descriptors"]


async def test_a_forgotten_task_shows_in_tasks() -> None:
    kept: list[asyncio.Task[bool]] = []
    found = measured(lambda: kept.append(asyncio.create_task(asyncio.Event().wait())))
    for one in kept:
        one.cancel()
    assert found == ["tasks"]


def test_a_thread_that_never_ends_shows_in_threads() -> None:
    over = threading.Event()
    found = measured(lambda: threading.Thread(target=over.wait, daemon=True).start())
    over.set()
    assert found == ["threads"]


@pytest.mark.timeout(300)
def test_a_soak_that_leaks_a_number_per_event_fails_and_names_it() -> None:
    command = [sys.executable, "-m", "tests.soak", "--only", "counted", "--hours", "0.1", "--leak", "events"]
    done = subprocess.run(
        [*command, "--predictions", "20000"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "WRONG: counted: blocks grew" in done.stdout
