"""One busy hour, compressed: memory, tasks, threads and descriptors flat, every sum exact."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.first
@pytest.mark.timeout(1200)
def test_an_hour_of_a_million_predictions_leaves_nothing_behind_and_loses_nothing() -> None:
    # Behind whatever runs beside it, whose waits are short; what is asked here is not how long it takes.
    command = ["nice", "-n", "10", sys.executable, "-m", "tests.soak", "--predictions", "1000000"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
