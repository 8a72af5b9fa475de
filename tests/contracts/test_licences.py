"""docs/LICENCES.md is what the installed packages say, and none of them binds whoever ships them."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "LICENCES.md").read_text(encoding="utf-8")
PERMISSIVE = {
    "Apache-2.0",
    "Apache Software License",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "3-Clause BSD License",
    "BSD License",
    "MIT",
    "MIT License",
    "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)",
    "PSF-2.0",
    "Python Software Foundation License",
}


def test_the_page_is_fresh() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "compose" / "packages" / "licences.py"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout == PAGE, "run: python compose/packages/licences.py > docs/LICENCES.md"


def test_every_licence_is_a_known_one_that_lets_the_package_be_shipped() -> None:
    rows = re.findall(r"(?m)^\| [\w.-]+ \| \d\S* \| (.+) \|$", PAGE)
    assert len(rows) > 50
    for row in rows:
        assert set(re.split(r" AND | OR |, ", row)) <= PERMISSIVE, row
