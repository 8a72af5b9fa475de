"""Regular expressions of the actions API outside the MCP gate: the work of each is bounded by its input's length.

The MCP gate's patterns meet larger inputs and have tests of their own.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (
    "actions/api",
    "actions/auth",
    "actions/store",
    "actions/domain",
    "actions/cli",
    "actions/capacity",
)
FUNCTIONS = {"compile", "match", "fullmatch", "search", "sub", "split", "findall", "finditer"}
parser: Any = vars(re)["_parser"]  # what `re` itself parses with
MANY: Any = vars(re)["_constants"].MAXREPEAT


def patterns() -> Iterator[tuple[str, str]]:
    for file in sorted(one for folder in FOLDERS for one in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if not (isinstance(node, ast.Call) and called and isinstance(node.func, ast.Attribute)):
                continue
            of_re = isinstance(node.func.value, ast.Name) and node.func.value.id == "re"
            named = [key.value for key in node.keywords if key.arg == "pattern"]
            first = node.args[:1] if of_re and node.func.attr in FUNCTIONS else named
            for value in first:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", value.value


def unbounded(tree: Any, *, inside: bool = False) -> bool:
    """Tell whether a repetition without an upper bound holds another one."""
    for _, arguments in tree:
        parts = arguments if isinstance(arguments, list | tuple) else ()
        repeats = len(parts) == 3 and parts[1] == MANY and isinstance(parts[2], parser.SubPattern)
        if repeats and inside:
            return True
        for part in parts:
            inner = part if isinstance(part, list) else [part]
            for one in inner:
                if isinstance(one, parser.SubPattern) and unbounded(one, inside=inside or repeats):
                    return True
    return False


FOUND = list(patterns())


def test_there_are_patterns_to_look_at() -> None:
    assert len(FOUND) > 4


@pytest.mark.parametrize(("where", "pattern"), FOUND, ids=[where for where, _ in FOUND])
def test_no_repetition_without_a_bound_holds_another(where: str, pattern: str) -> None:
    assert not unbounded(parser.parse(pattern)), where


@pytest.mark.parametrize(
    ("pattern", "expected"), [(r"^(a+)+$", True), (r"(?:a|b*)*c", True), (r"a+b+(c{1,9})*", False)]
)
def test_the_check_itself_sees_what_backtracks(pattern: str, expected: bool) -> None:  # noqa: FBT001 - a parameter
    assert unbounded(parser.parse(pattern)) is expected
