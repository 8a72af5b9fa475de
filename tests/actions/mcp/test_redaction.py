"""Circuit breakers by a hand-driven clock; redaction of what is shown."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.mcp.redaction import PREVIEW_CHARS, REDACTED, digest, preview, redact, redact_command
from actions.mcp.upstream.limits import Breaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_breaker_opens_lets_one_call_try_and_closes_when_it_works() -> None:
    clock = Clock()
    breaker = Breaker(2, 30, clock)
    breaker.failed()
    assert breaker.wait_s() == 0
    breaker.failed()
    assert breaker.wait_s() == 30
    clock.now = 30
    assert breaker.wait_s() == 0
    assert breaker.wait_s() == 30  # one tries, the others wait
    breaker.failed()
    assert breaker.wait_s() == 30
    clock.now = 60
    assert breaker.wait_s() == 0
    breaker.abandoned()
    assert breaker.wait_s() == 0
    breaker.succeeded()
    assert not breaker.is_open
    assert [breaker.wait_s() for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcdefghijklmnop1234",
        "ghp_abcdefghijklmnopqrstuvwxyz012345",
        "Bearer abcdefghijklmnop",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "AKIAABCDEFGHIJKLMNOP",
        "xoxb-123456789012-abc",
        "dp_abcdefgh_0123456789012345678901234567890123456789012",
        "redis://:hunter2pw@cache/0",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_secret_is_not_shown(secret: str) -> None:
    shown = preview({"text": f"use {secret} please", "list": [{"deep": secret}]})
    assert secret not in json.loads(shown)["text"]
    assert REDACTED in shown
    assert shown.count(REDACTED) == 2


def test_names_of_secrets_known_values_and_urls_are_redacted() -> None:
    found = redact(
        {"apiKey": 1, "Password": "x", "tokens_max": 5, "n": 3, "url": "https://me:pw1234@host/"},
        ["known-value"],
    )
    assert found["apiKey"] == found["Password"] == REDACTED
    assert found["n"] == 3
    assert "pw1234" not in found["url"]
    assert redact("the known-value here", ["known-value"]) == f"the {REDACTED} here"
    assert redact_command(["x", "--token", "abc", "--api-key=def", "KEY", "fine"]) == [
        "x", "--token", REDACTED, f"--api-key={REDACTED}", "KEY", "fine",
    ]  # fmt: skip


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_does_not_have_are_kept_as_words(number: float) -> None:
    assert redact({"x": [number]}) == {"x": [str(number)]}


def test_a_known_value_that_begins_another_leaves_nothing_of_it() -> None:
    assert redact("x abcdEFGH y", ["abcd", "abcdEFGH"]) == f"x {REDACTED} y"


def test_a_secret_that_is_a_key_and_one_below_a_very_long_key_are_redacted() -> None:
    long_key = "x" * 200 + "_password"
    found = redact({"known-value": 1, long_key: "hunter2"}, ["known-value"])
    assert found == {REDACTED: 1, "x" * 100: REDACTED}


@given(
    st.recursive(
        st.none() | st.text(max_size=10) | st.floats(allow_nan=False),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
        max_leaves=40,
    )
)
def test_previews_are_bounded_and_digests_depend_on_content_alone(value: object) -> None:
    arguments = {"b": value, "a": value}
    assert len(preview(arguments)) <= PREVIEW_CHARS + 3
    assert digest(arguments) == digest({"a": value, "b": value})
    assert digest(arguments) != digest({"a": value, "b": value, "c": 1})
