"""What this process takes, against prometheus-client's own collector of the same, and what it is allowed to."""

import asyncio
import gc
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path

import pytest
from prometheus_client import ProcessCollector

from actions import app as actions_app
from actions import settings as actions_settings
from exporter import app as exporter_app
from exporter import settings as exporter_settings
from exporter.shared import process


def theirs() -> dict[str, float]:
    return {
        sample.name: sample.value
        for family in ProcessCollector(registry=None).collect()
        for sample in family.samples
    }


def test_it_is_what_prometheus_client_reads() -> None:
    before = theirs()
    ours = process.read()
    after = theirs()

    assert ours is not None
    # prometheus-client counts user and system time in ticks of 10 ms, and counts the listing's own file.
    assert before["process_cpu_seconds_total"] - 0.02 <= ours.cpu_seconds
    assert ours.cpu_seconds <= after["process_cpu_seconds_total"] + 0.02
    assert ours.open_files + 1 == before["process_open_fds"] == after["process_open_fds"]
    assert ours.open_files_most == before["process_max_fds"]
    assert ours.started_at_s == pytest.approx(before["process_start_time_seconds"], abs=1)
    assert ours.resident_bytes == pytest.approx(before["process_resident_memory_bytes"], rel=0.1)
    assert ours.virtual_bytes == pytest.approx(before["process_virtual_memory_bytes"], rel=0.1)


def test_without_proc_there_is_no_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_STATM", tmp_path / "missing")

    assert process.read() is None


def test_the_limit_of_open_files_is_lifted_to_what_is_allowed() -> None:
    code = (
        "import resource\n"
        "from exporter.shared import process\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512))\n"
        "process.raise_open_files_limit()\n"
        "print(process.read().open_files_most)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert int(ran.stdout) == 512


def test_garbage_is_looked_for_less_often_by_both_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = gc.get_threshold()
    found = []

    def note(serving: Coroutine[None, None, None]) -> None:
        serving.close()
        found.append(gc.get_threshold())

    monkeypatch.setattr(asyncio, "run", note)
    monkeypatch.setattr(process, "raise_open_files_limit", lambda: None)
    try:
        exporter_app.run(exporter_settings.load({}, {}))
        gc.set_threshold(*before)
        actions_app.run(actions_settings.load({"state": str(tmp_path)}, {}))
    finally:
        gc.set_threshold(*before)
    assert found == [(process.NEW_OBJECTS_PER_COLLECTION, *before[1:])] * 2
