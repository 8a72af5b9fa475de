"""Results for the client: cut to the cap at the byte, marked with the rule, and refusals that a model can read."""

from typing import Any

import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPError

from actions.mcp.policy.rules import Decision, PolicyResult
from actions.mcp.proxy_request import Grant, Refused
from actions.mcp.results import SizeLimit, ToolResultLimit, marked, refusal, refusal_error
from actions.mcp.upstream.streams import GATE_KEY

DENIED = PolicyResult(Decision.DENY, "no-shell")


def text(content: str) -> types.TextContent:
    return types.TextContent(text=content)


def image(data: str) -> types.ImageContent:
    return types.ImageContent(data=data, mime_type="image/png")


def result(*blocks: Any, **changes: Any) -> types.CallToolResult:
    return types.CallToolResult(content=list(blocks), **changes)


def cut(cap: int, whole: types.CallToolResult) -> tuple[list[str], Any, bool | None, str]:
    """Cut a result; return its texts without the note, its structured content, whether it is an error, the outcome."""
    shorter, outcome, was_cut = ToolResultLimit(cap)(whole)
    assert was_cut
    note = shorter.content[-1]
    assert isinstance(note, types.TextContent)
    assert note.text == (
        f"[Cut by the DaemonPulse gate: the result has more than {cap} bytes, its output_cap_bytes.]"
    )
    shown = [
        str(getattr(block, "text", None) or getattr(block, "data", "")) for block in shorter.content[:-1]
    ]
    return shown, shorter.structured_content, shorter.is_error, outcome


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ("denied", "The DaemonPulse gate refused this call. why"),
        ("timeout", "The DaemonPulse gate has no result for this call. why"),
        ("unavailable", "The DaemonPulse gate has no result for this call. why"),
        ("malformed", "The DaemonPulse gate has no result for this call. why"),
    ],
)
def test_a_refused_call_is_an_error_with_the_rule_and_the_outcome(outcome: str, words: str) -> None:
    refused = refusal(Refused(outcome, "why", DENIED))
    assert refused.content == [text(words)]
    assert refused.is_error
    assert refused.meta == {GATE_KEY: {"decision": "deny", "rule": "no-shell", "outcome": outcome}}
    approved = refusal(Refused(outcome, "why", DENIED, "appr_1")).meta or {}
    assert approved[GATE_KEY]["approval"] == "appr_1"


def test_a_refused_prompt_or_resource_is_a_protocol_error_with_the_rule() -> None:
    error = refusal_error(Refused("denied", "why", DENIED, "appr_1")).error
    assert (error.code, error.message) == (types.INVALID_REQUEST, "The DaemonPulse gate refused this. why")
    assert error.data == {GATE_KEY: {"decision": "deny", "rule": "no-shell", "approval": "appr_1"}}


def test_a_result_carries_the_rule_over_what_the_server_wrote_there() -> None:
    allowed = Grant(PolicyResult(Decision.ALLOW, "reads"), None)
    gate = {"decision": "allow", "rule": "reads"}
    assert marked(result(text("x")), allowed).meta == {GATE_KEY: gate}
    forged = result(text("x"), _meta={GATE_KEY: {"rule": "forged"}, "own": 1})
    assert marked(forged, allowed).meta == {GATE_KEY: gate, "own": 1}
    assert marked(forged, allowed).content == [text("x")]


def test_a_result_up_to_its_cap_is_passed_on_as_it_is() -> None:
    whole = result(text("aé"), image("1234"), structured_content={"a": 1})
    size = 3 + 4 + len('{"a": 1}')
    assert ToolResultLimit(size)(whole) == (whole, "done", False)
    assert ToolResultLimit(size - 1)(whole)[2]
    failed = result(text("x"), is_error=True)
    assert ToolResultLimit(1)(failed) == (failed, "tool_error", False)
    assert ToolResultLimit(0)(result()) == (result(), "done", False)


def test_a_larger_one_is_cut_at_the_byte_and_never_within_a_character() -> None:
    assert cut(4, result(text("abcdef"))) == (["abcd"], None, False, "done")
    assert cut(4, result(text("abcé"))) == (["abc"], None, False, "done")
    assert cut(5, result(text("abc"), text("def"))) == (["abc", "de"], None, False, "done")
    assert cut(3, result(text("abc"), text("def"))) == (["abc"], None, False, "done")
    assert cut(1, result(text("abc"), text("d"), is_error=True)) == (["a"], None, True, "tool_error")


def test_what_cannot_be_cut_is_left_out_and_what_follows_may_still_fit() -> None:
    assert cut(4, result(text("ab"), image("12345"), text("cd"))) == (["ab", "cd"], None, False, "done")
    assert cut(4, result(image("1234"), text("c"))) == (["1234"], None, False, "done")


def test_structured_content_stays_only_if_it_fits_behind_the_rest_and_else_the_result_is_an_error() -> None:
    structured = {"a": 1}
    size = len('{"a": 1}')
    kept = result(image("x" * 100), text("ab"), structured_content=structured)
    assert cut(2 + size, kept) == (["ab"], structured, False, "done")
    assert cut(1 + size, kept) == (["ab"], None, True, "done")


def test_every_kind_of_block_has_a_size() -> None:
    blob = types.BlobResourceContents(uri="file:///x", blob="12345")
    embedded = types.EmbeddedResource(resource=blob)
    link = types.ResourceLink(uri="file:///x", name="x")
    assert not ToolResultLimit(5)(result(embedded))[2]
    assert ToolResultLimit(4)(result(embedded))[2]
    size = len(link.model_dump_json())
    assert not ToolResultLimit(size)(result(link))[2]
    assert ToolResultLimit(size - 1)(result(link))[2]


@pytest.mark.parametrize(
    ("whole", "size"),
    [
        (types.ReadResourceResult(contents=[types.TextResourceContents(uri="x://y", text="abcé")]), 5),
        (types.ReadResourceResult(contents=[types.BlobResourceContents(uri="x://y", blob="abcd")] * 2), 8),
        (types.GetPromptResult(messages=[types.PromptMessage(role="user", content=text("abcde"))]), 5),
        (types.GetPromptResult(messages=[]), 0),
    ],
)
def test_a_prompt_or_a_resource_is_passed_on_whole_or_refused(whole: Any, size: int) -> None:
    assert SizeLimit(size)(whole) == (whole, "done", False)
    if size:
        with pytest.raises(MCPError) as refused:
            SizeLimit(size - 1)(whole)
        assert refused.value.error.code == types.INVALID_REQUEST
        assert refused.value.error.message == (
            f"The DaemonPulse gate refused this: it has {size} bytes; output_cap_bytes is {size - 1}."
        )
