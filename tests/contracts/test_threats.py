"""docs/SECURITY.md keeps its word: every threat names a test, and every test it names is there."""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "SECURITY.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (.+) \| (.+) \| (`tests/.+`) \|$", PAGE, re.MULTILINE)
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
LOCKS = sorted(ROOT.glob("tests/**/node/package-lock.json"))


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_the_page_names_threats_and_every_row_of_them_a_test() -> None:
    tables = PAGE.split("## Threats, mitigations and their tests")[1]
    rows = [line for line in tables.splitlines() if line.startswith("| ") and "---" not in line]
    headings = [row for row in rows if row == "| Threat | What holds | Test |"]
    assert len(ROWS) == len(rows) - len(headings) > 30


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[name for _, name in NAMED])
def test_every_test_the_page_names_is_there(file: str, name: str) -> None:
    assert name in functions(ROOT / file)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.parent.relative_to(ROOT)))
def test_every_npm_package_of_the_tests_is_locked_with_a_hash(lock: Path) -> None:
    packages = json.loads(lock.read_text(encoding="utf-8"))["packages"]
    wanted = json.loads((lock.parent / "package.json").read_text(encoding="utf-8"))
    assert len(packages) > 1
    for name, one in packages.items():
        if name and not one.get("link"):
            assert one["integrity"].startswith("sha512-"), name
    for version in (wanted.get("dependencies", {}) | wanted.get("devDependencies", {})).values():
        assert re.fullmatch(r"\d+\.\d+\.\d+(-[\w.]+)?", version), "pinned exactly"
