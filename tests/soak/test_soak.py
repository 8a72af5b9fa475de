"""One busy hour, compressed: memory, tasks, threads and descriptors flat, every sum exact."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PREDICTIONS = 500_000
"""Half of what the command does by itself: the whole million takes two cores longer than CI has for it."""


@pytest.mark.timeout(1200)
def test_an_hour_of_half_a_million_predictions_leaves_nothing_behind_and_loses_nothing() -> None:
    command = [sys.executable, "-m", "tests.soak", "--predictions", str(PREDICTIONS)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
