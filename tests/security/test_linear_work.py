"""Work grows linearly with what a caller sends: every pattern, every decision, twice the input, twice the steps.

Steps are counted, not seconds: lines of Python that run. Patterns run outside Python, so it is shown of each that it is
RE2's, or that what it meets is short.
"""

import ast
import itertools
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from actions.mcp.identifiers import MAX_NAME, MAX_PATH, MAX_URI, name_fault, normal_uri, path_fault
from actions.mcp.policy.constraints import MAX_NODES, Constraints, host_of, measure
from actions.mcp.policy.rules import Decision, Policy, Rule, Subject, decide
from actions.mcp.redaction import digest, preview, redact, redact_text
from exporter.shared.linear import Pattern

ROOT = Path(__file__).parent.parent.parent

BOUNDED = {
    "actions/mcp/upstream/http.py": "fixed line ends, without a repetition",
    "actions/mcp/upstream/large_messages.py": "the last 4,096 bytes of a message; every repetition has a bound",
    "actions/mcp/completions.py": "a template that the server listed, of which the name of a variable is a part",
    "actions/mcp/upstream/answers.py": "the first characters of a message, with bounded repetitions",
    "actions/mcp/identifiers.py": f"URIs of {MAX_URI}, names of {MAX_NAME} and paths of {MAX_PATH} characters",
    "actions/mcp/look_alikes.py": "one class of characters",
    "actions/mcp/upstream/spec.py": "names of servers, 64 characters of two classes",
    "actions/mcp/policy/file.py": "the policy file, which its owner writes",
    "actions/mcp/policy/file_format.py": "errors about the policy file",
    "actions/mcp/mcp_json/adopt.py": "one class of characters",
    "actions/mcp/plugin_log.py": "the daemon's own log lines",
}
"""Where Python's `re` is used below actions/mcp, and what its patterns meet."""


def test_patterns_that_meet_what_callers_send_are_re2s_or_meet_what_is_short() -> None:
    using = set()
    for file in (ROOT / "actions" / "mcp").rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if any(
            isinstance(node, ast.Import) and any(name.name == "re" for name in node.names)
            for node in ast.walk(tree)
        ):
            using.add(file.relative_to(ROOT).as_posix())
    assert using <= BOUNDED.keys(), "use exporter.shared.linear, or say here what bounds the text"


def test_what_is_too_long_for_a_bounded_pattern_is_refused_before_it() -> None:
    assert normal_uri("x:" + "y" * (MAX_URI - 2)) is not None
    assert normal_uri("x:" + "y" * (MAX_URI - 1)) is None
    assert name_fault("x" * (MAX_NAME + 1)) is not None
    assert path_fault("/" + "x" * MAX_PATH) is not None
    assert host_of("a." * 5_000) is None


@pytest.mark.parametrize("pattern", [r"^(a+)+$", r"(a|a)*b", r"(.*a){20}", r"\s+$"])
def test_patterns_that_take_python_for_ever_are_ordinary_ones_here(pattern: str) -> None:
    text = "a" * 200_000 + " " * 200_000 + "!"
    assert not Pattern(pattern).is_all_of(text)


def steps(what: Callable[[], object]) -> int:
    """Count the lines of Python that run."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        what()
    finally:
        sys.settrace(before)
    return count


CONSTRAINTS = Constraints(
    schema={
        "properties": {
            "x": {"pattern": "^(a+)+$"},
            "list": {"uniqueItems": True, "items": {"type": "string"}},
        },
        "patternProperties": {"^k": {"maxLength": 10}},
        "additionalProperties": False,
    },
    path_arguments=("path",),
    path_roots=("/srv",),
    host_arguments=("url",),
    hosts=("*.example.org",),
)
POLICY = Policy((Rule("one", Decision.ASK, target="t*", constraints=CONSTRAINTS),))


def judge(arguments: Mapping[str, Any]) -> object:
    normal = CONSTRAINTS.normal(arguments)
    return decide(POLICY, Subject("s", "tool", "t", "x"), normal, changed=False, resolve=lambda path: path)


def many(size: int) -> list[dict[str, Any]]:
    """Arguments of one size, each meant to cost as much as it can."""
    block = "-----BEGIN PRIVATE KEY-----\n"
    return [
        {"x": "a" * size + "!"},
        {"x": block * (size // len(block))},
        {"x": (block + "A" * 64 + "\n") * (size // 100)},
        {"x": "://" * (size // 3)},
        {"x": "Bearer " * (size // 7)},
        {"x": "eyJaaaaaaaa." * (size // 12)},
        {"list": [str(number) for number in range(size // 8)]},
        {"list": [{"a": [number]} for number in range(size // 20)]},
        {f"k{number}": "v" for number in range(size // 10)},
        {"path": ["/srv/" + "a/../" * 40] * (size // 200)},
        {"path": {f"/srv/{number}": ["/srv"] for number in range(size // 20)}},
        {"url": [f"https://{number}.example.org/" for number in range(size // 30)]},
        {"deep": [[[[{"password": "x" * 100}] * 4] * 4] * 4] * (size // 7_000)},
    ]


DECISIONS: dict[str, Callable[[Mapping[str, Any]], object]] = {
    "measure": measure,
    "digest": digest,
    "redact": redact,
    "preview": preview,
    "redact text": lambda arguments: redact_text(json.dumps(arguments)),
    "decide": judge,
}


@pytest.mark.parametrize("what", DECISIONS)
@pytest.mark.parametrize("which", range(len(many(100))))
def test_twice_the_input_takes_twice_the_steps_at_most(what: str, which: int) -> None:
    took = []
    for size in (8_000, 16_000, 32_000):
        arguments = many(size)[which]
        DECISIONS[what](arguments)  # compiles and caches
        took.append(steps(lambda: DECISIONS[what](arguments)))  # noqa: B023 - runs at once
    for small, large in itertools.pairwise(took):
        assert large <= 2.2 * small + 100, took


def test_no_call_has_more_values_than_all_this_is_meant_for() -> None:
    assert measure({"list": [0] * (MAX_NODES + 1)})[1] is not None
    assert steps(lambda: measure({"list": [[0] * 100] * MAX_NODES})) < 3 * MAX_NODES
