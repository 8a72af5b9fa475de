"""One busy hour, compressed: memory, tasks, threads and descriptors flat, every sum exact."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.timeout(1200)
def test_an_hour_of_a_million_predictions_leaves_nothing_behind_and_loses_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
