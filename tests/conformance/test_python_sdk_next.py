"""The next release of the official Python SDK is as content with the simulator as the one that is installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.external import NEXT_PYTHON_SDK

ROOT = Path(__file__).parents[2]


@pytest.mark.external("lmstudio 1.6.0b1")
def test_the_next_python_sdk_drives_the_simulator() -> None:
    environment = {**os.environ, "PYTHONPATH": str(NEXT_PYTHON_SDK)}
    asked = [sys.executable, "-c", "import lmstudio; print(lmstudio.__version__)"]
    version = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True, cwd=ROOT)
    assert version.stdout.strip() == "1.6.0b1"
    tests = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/conformance/test_python_sdk.py",
    ]
    judged = subprocess.run(
        tests, env=environment, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300
    )
    assert judged.returncode == 0, judged.stdout[-5000:]
