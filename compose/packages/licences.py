"""Print docs/LICENCES.md: every package of an install with all extras, with its version and licence.

Reads the metadata of the packages that are installed beside this Python; compose/hashes.txt says which they are.
"""

import re
from importlib import metadata
from pathlib import Path
from typing import Final

HASHES: Final = Path(__file__).parents[1] / "hashes.txt"
HEAD: Final = """# Licences

What an install with all extras brings, as `compose/hashes.txt` pins it. DaemonPulse itself is under the MIT licence.
Made by `python compose/packages/licences.py`.

| Package | Version | Licence |
| --- | --- | --- |
"""


def licence(package: metadata.PackageMetadata) -> str:
    """Tell a package's licence: the SPDX expression, else the classifiers, else the first line of the free text."""
    if expression := package.get("License-Expression"):
        return str(expression)
    named = [
        line.rpartition(" :: ")[2]
        for line in package.get_all("Classifier") or ()
        if line.startswith("License :: ") and line != "License :: OSI Approved"
    ]
    return ", ".join(named) or str(package.get("License") or "unknown").strip().splitlines()[0][:80]


def page() -> str:
    """Make the page. Raises PackageNotFoundError, and LookupError for a version that is not the pinned one."""
    rows = []
    for name, version in re.findall(r"(?m)^([\w.-]+)==(\S+)", HASHES.read_text(encoding="utf-8")):
        package = metadata.metadata(name)
        if package["Version"] != version:
            raise LookupError(f"{name} is {package['Version']} here, and {version} in {HASHES.name}")
        rows.append(f"| {name} | {version} | {licence(package)} |")
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - that is its work
