"""One malformed item costs that item; what cannot be mended comes back as it is."""

from typing import Any

import pytest

from actions.mcp.upstream import lenient
from actions.mcp.upstream.lenient import MAX_BLOCKS, repaired

SCHEMA = {"type": "object"}
GOOD = {"name": "good", "inputSchema": SCHEMA}


@pytest.mark.parametrize("version", ["2025-06-18", "2025-11-25", "2026-07-28"])
@pytest.mark.parametrize(
    "bad",
    [
        3,
        "x",
        None,
        [],
        {},
        {"name": "no schema"},
        {"name": 1, "inputSchema": SCHEMA},
        {"name": "b", "inputSchema": 3},
    ],
)
def test_a_malformed_tool_costs_that_tool(version: str, bad: Any) -> None:
    more = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"} if version == "2026-07-28" else {}
    result, dropped = repaired("tools/list", version, {"tools": [GOOD, bad, GOOD], **more})
    assert (result["tools"], dropped) == ([GOOD, GOOD], 1)
    whole = {"tools": [GOOD], **more}
    assert repaired("tools/list", version, whole) == (whole, 0)


def test_what_every_result_must_have_since_2026_07_28_is_added_where_it_is_missing() -> None:
    plain = {"content": [{"type": "text", "text": "x"}]}
    assert repaired("tools/call", "2026-07-28", plain) == ({"resultType": "complete", **plain}, 0)
    assert repaired("tools/call", "2025-11-25", plain) == (plain, 0)
    asks = {"resultType": "input_required", "inputRequests": {}}
    assert repaired("tools/call", "2026-07-28", asks) == (asks, 0)
    listed, dropped = repaired("tools/list", "2026-07-28", {"tools": [GOOD], "ttlMs": 5})
    cached = {"resultType": "complete", "ttlMs": 5, "cacheScope": "private"}
    assert (listed, dropped) == ({"tools": [GOOD], **cached}, 0)


def test_lists_of_every_kind_are_mended_and_a_missing_one_is_empty() -> None:
    for method, key, good in (
        ("prompts/list", "prompts", {"name": "p"}),
        ("resources/list", "resources", {"name": "r", "uri": "x:y"}),
        ("resources/templates/list", "resourceTemplates", {"name": "t", "uriTemplate": "x:{y}"}),
    ):
        assert repaired(method, "2025-11-25", {key: [good, 3]}) == ({key: [good]}, 1)
        assert repaired(method, "2025-11-25", {}) == ({key: []}, 1)
    odd = {"tools": [GOOD], "nextCursor": 3}
    assert repaired("tools/list", "2025-11-25", odd)[0] == {"tools": [GOOD]}


TEXT = {"type": "text", "text": "fine"}


@pytest.mark.parametrize(
    ("result", "content", "dropped"),
    [
        ({"content": [TEXT]}, [TEXT], 0),
        ({}, [], 0),
        ({"structuredContent": {"a": 1}}, [], 0),
        ({"content": None}, [], 0),
        ({"content": "x"}, None, 1),
        ({"content": [TEXT, {"type": "hologram"}, {"type": "text"}, 3]}, None, 3),
        ({"content": [{"type": "image", "data": "", "mimeType": "image/png"}]}, None, 0),
    ],
)
def test_a_malformed_block_costs_that_block_and_says_so(
    result: dict[str, Any], content: Any, dropped: int
) -> None:
    found, count = repaired("tools/call", "2025-11-25", result)
    assert count == dropped
    if content is not None:
        assert found["content"] == content
    if dropped:
        assert found["content"][-1]["text"] == f"[{dropped} malformed content blocks were dropped.]"


def test_other_results_of_a_call_and_other_methods_are_left_alone() -> None:
    others: list[dict[str, Any]] = [
        {"task": {"taskId": "x"}},
        {"inputRequests": {}},
        {"resultType": "input_required"},
    ]
    for result in others:
        assert repaired("tools/call", "2026-07-28", result) == (result, 0)
    assert repaired("ping", "2025-11-25", {"x": 1}) == ({"x": 1}, 0)


def test_plain_text_is_not_validated_by_the_sdk_and_comes_back_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def validated(*_: Any) -> bool:
        pytest.fail("validated")

    monkeypatch.setattr(lenient, "_fits", validated)
    whole = {"content": [TEXT] * MAX_BLOCKS, "isError": False}
    found, dropped = repaired("tools/call", "2025-11-25", whole)
    assert found is whole
    assert dropped == 0
    more, dropped = repaired("tools/call", "2025-11-25", {"content": [TEXT] * (MAX_BLOCKS + 2)})
    assert dropped == 2
    told = {"type": "text", "text": f"[2 content blocks beyond {MAX_BLOCKS} were dropped.]"}
    assert more["content"] == [*[TEXT] * MAX_BLOCKS, told]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "text", "text": 5},
        {"type": "TEXT", "text": "x"},
        {"type": "text", "text": "x", "annotations": 5},
        "x",
    ],
)
def test_what_only_looks_like_plain_text_is_validated(block: Any) -> None:
    found, dropped = repaired("tools/call", "2025-11-25", {"content": [block, TEXT]})
    told = {"type": "text", "text": "[1 malformed content blocks were dropped.]"}
    assert (found["content"], dropped) == ([TEXT, told], 1)


def test_malformed_blocks_and_those_beyond_the_limit_are_counted_together() -> None:
    found, dropped = repaired("tools/call", "2025-11-25", {"content": [3, *[TEXT] * MAX_BLOCKS, TEXT]})
    assert dropped == 3
    assert [block["text"] for block in found["content"][-2:]] == [
        "[1 malformed content blocks were dropped.]",
        f"[2 content blocks beyond {MAX_BLOCKS} were dropped.]",
    ]


def test_a_list_that_is_none_or_of_an_unknown_version_comes_back_as_it_is() -> None:
    odd = {"tools": "none"}
    assert repaired("tools/list", "2025-11-25", odd) == (odd, 0)
    unknown = {"tools": [GOOD, 3]}
    assert repaired("tools/list", "1999-01-01", unknown) == (unknown, 0)
