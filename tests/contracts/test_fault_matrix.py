"""docs/DESIGN.md says what is promised when something fails: every fault has a row, every test it names is there."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "DESIGN.md").read_text(encoding="utf-8")

FAULTS = (
    "daemon killed",
    "daemon frozen",
    "daemon restarted with another version",
    "daemon upgraded mid-run",
    "socket dropped",
    "socket half-open",
    "socket slow",
    "malformed JSON",
    "unknown enum",
    "wrong types",
    "an entry that cannot be read",
    "a warning instead of an answer",
    "a call that hangs",
    "a cancel is answered by an error, a close, silence or a lost socket, or comes too late",
    "a frame of 5 MB",
    "a frame of 50 MB",
    "HTTP 500 with HTML",
    "HTTP 200 with an error",
    "token revoked",
    "wall clock jumps",
    "OTLP receiver down",
    "OTLP receiver slow",
    "OTLP receiver refuses",
    "OTLP receiver answers 429",
    "OTLP partial success",
    "a metrics receiver fails or rejects",
    "NVML lost",
    "NVML slow",
    "NVML reloaded",
    "an AMD or Intel GPU vanishes",
    "files of a GPU's driver refuse or garble",
    "disk full",
    "database locked",
    "database corrupted",
    "database read-only",
    "the audit cannot be rotated",
    "killed while the audit is rotated",
    "50 scrapers at once",
    "scrapers with 1 s",
    "tap's reports are odd, or begin anew",
    "tap told to end",
    "tap killed",
    "tap cannot read what passes",
    "daemon down behind a tap",
    "exporter away from the live view",
    "a daemon of a group refuses or is away",
    "a tool server exits, is silent or floods",
    "the policy file breaks or vanishes",
    "exporter told to end",
    "exporter killed",
    "actions told to end",
    "actions killed",
    "a burst of 10,000 events",
)
"""What operators live through; a fault that is added here needs a row, and a row needs a test."""


def rows() -> dict[str, tuple[str, list[str]]]:
    """Read the table: fault -> promise, tests."""
    section = PAGE.partition("## When things fail\n")[2].partition("\n## ")[0]
    found: dict[str, tuple[str, list[str]]] = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 3 and cells[0] not in {"Fault", "---"}:
            found[cells[0]] = (cells[1], re.findall(r"`(test_\w+)`", cells[2]))
    return found


@cache
def known() -> Counter[str]:
    """Count the tests there are by name; they may move between files."""
    return Counter(
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        if "node_modules" not in path.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def test_every_fault_has_a_row_and_every_row_is_a_fault_we_know() -> None:
    assert sorted(rows()) == sorted(FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_row_promises_something_and_names_tests_that_are_there(fault: str) -> None:
    promise, tests = rows()[fault]
    assert len(promise) > 10
    assert tests, "name a test"
    for test in tests:
        assert known()[test] == 1, f"there is to be one {test}"
