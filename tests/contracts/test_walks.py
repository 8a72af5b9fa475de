"""The four walks of docs/DESIGN.md name code that exists, and each follows its numbers."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_SECTION = (
    (ROOT / "docs" / "DESIGN.md")
    .read_text(encoding="utf-8")
    .partition("## Four walks")[2]
    .partition("\n## ")[0]
)
WALKS = {
    title: re.findall(r"(?m)^(\d+)\. `([\w/.]+\.py):([\w.]+)`", steps)
    for title, steps in re.findall(r"(?m)^(A [\w ]+):\n\n((?:\d+\. .*\n)+)", _SECTION)
}


def defined(path: Path, dotted: str) -> bool:
    """Tell whether a module defines a function, a class or a method."""
    body: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body
    for name in dotted.split("."):
        found = [
            node
            for node in body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name
        ]
        if not found:
            return False
        body = found[0].body
    return True


def test_there_are_four_walks_and_every_step_is_numbered() -> None:
    assert list(WALKS) == ["A scrape", "A log event", "A load", "A gated tool call"]
    for steps in WALKS.values():
        assert [int(number) for number, _, _ in steps] == list(range(1, len(steps) + 1))


@pytest.mark.parametrize("title", WALKS)
def test_every_step_is_code_that_exists(title: str) -> None:
    for _, file, dotted in WALKS[title]:
        assert (ROOT / file).is_file(), file
        assert defined(ROOT / file, dotted), f"{file} does not define {dotted}"
