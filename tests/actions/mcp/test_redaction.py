"""What a record holds of secrets and of size, and the digest of what it does not hold."""

import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.mcp.redaction import REDACTED, digest, preview, redact, redact_command, redact_text

LINES = ("MIIE" + "a1B2" * 15, "c3D+" * 16)

KEY = "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join(LINES) + "\nshort==\n-----END RSA PRIVATE KEY-----"


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
        KEY,
    ],
)
def test_what_looks_like_a_secret_is_not_shown(secret: str) -> None:
    arguments = {"text": f"use {secret} please", "list": [{"deep": secret}]}
    shown = preview(arguments) or ""
    assert secret not in json.loads(shown)["text"]
    assert shown.count(REDACTED) == 2
    assert secret not in str(redact(arguments))
    assert str(redact(arguments)).count(REDACTED) == 2


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


def test_a_command_line_is_shown_without_the_values_of_secrets() -> None:
    words = ["x", "--auth", "abc", "--pin=12=34", "-otp", "--verbose", "use", "Bearer abcdefghijkl", "a=b"]
    assert redact_command(words) == [
        "x", "--auth", REDACTED, f"--pin={REDACTED}", "-otp", "--verbose", "use", f"Bearer {REDACTED}", "a=b",
    ]  # fmt: skip
    assert redact_command(["--token", "--token", "a", "b"]) == ["--token", "--token", REDACTED, "b"]


def test_a_digest_is_the_hmac_of_one_way_to_write_the_value() -> None:
    value = {"b": [1, "é", 1.5], "a": {"d": None, "c": True}}
    written = b'{"a":{"c":true,"d":null},"b":[1,"\\u00e9",1.5]}'
    for key in (b"", b"a key"):
        assert digest(value, key) == hmac.new(key, written, hashlib.sha256).hexdigest()
    assert digest(value) == digest(value, b"")
    assert digest({"x": float("nan")}) != digest({"x": None})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_does_not_have_are_kept_as_words(number: float) -> None:
    assert redact({"x": [number]}) == {"x": [str(number)]}
    others = [1.5, None, True, 10**400]
    assert redact(others) == others
    assert json.loads(preview({"x": [number, 1.5]}) or "") == {"x": [str(number), 1.5]}


@pytest.mark.parametrize("known", [("abcd", "abcdEFGH"), ("dEFG", "abcdEFGH"), ("abcdEFGH", "EFGH")])
def test_a_known_value_that_is_a_part_of_another_leaves_nothing_of_it(known: tuple[str, ...]) -> None:
    assert redact("x abcdEFGH y", known) == f"x {REDACTED} y"
    assert redact("x abcdEFGH y", known[::-1]) == f"x {REDACTED} y"


def test_a_known_value_that_is_short_occurs_in_ordinary_text() -> None:
    assert redact_text("8080 and 80", ["8080", "80", "and"]) == f"{REDACTED} and 80"


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
    assert preview(arguments) is not None
    assert digest(arguments) == digest({"a": value, "b": value})
    assert digest(arguments) != digest({"a": value, "b": value, "c": 1})


def test_a_record_of_any_arguments_is_short() -> None:
    wide: object = "x" * 1_000
    for _ in range(6):
        wide = {f"{key}" * 50: wide for key in range(10)}
    assert len(json.dumps(redact(wide))) < 40_000
    assert redact({"x": "a" * 600})["x"] == "a" * 500 + "... (600 characters)"


def test_a_record_has_500_characters_of_a_text_and_8000_of_all() -> None:
    text = "a" * 500
    assert redact(text) == text
    assert redact(f"{text}b") == f"{text}... (501 characters)"
    assert redact([text] * 18) == [*[text] * 16, *["... (500 characters)"] * 2]
    assert redact([*[text] * 15, text[:499], text]) == [*[text] * 15, text[:499], "a... (500 characters)"]


@pytest.mark.parametrize(
    ("left", "shown"),
    [(1, [[1], "[...]", "{...}"]), (0, ["[...]", "[...]", "{...}"]), (9, [[1], [1], "{...}"])],
)
def test_when_all_is_used_lists_and_objects_are_left_out(left: int, shown: list[object]) -> None:
    used = [*["a" * 500] * 15, "a" * (500 - left)]
    assert redact([*used, [1], [1], {"a": 1}])[16:] == shown
    assert redact([*used, {"": 1}])[16] == ({"": 1} if left else "{...}")


def test_a_record_counts_a_number_as_eight_characters_and_a_key_as_it_is() -> None:
    lists = redact([[1] * 50] * 22)
    assert lists[19:] == [[1] * 50, "[...]", "[...]"]
    keyed = redact([{"k" * 92: 1} for _ in range(50)] + [2])
    assert len(keyed) == 51
    keyed = redact([[{"k" * 92: 1}] * 40, [{"k" * 92: 1}] * 50])
    assert keyed == [[{"k" * 92: 1}] * 40, [{"k" * 92: 1}] * 40 + ["{...}"] * 10]


def test_a_record_has_fifty_entries_and_twelve_levels() -> None:
    assert redact({str(n): n for n in range(50)}) == {str(n): n for n in range(50)}
    assert redact({str(n): n for n in range(52)}) == {**{str(n): n for n in range(50)}, "...": "2 more"}
    assert redact(list(range(50))) == list(range(50))
    assert redact(list(range(53))) == [*range(50), "... 3 more"]
    for wrap, cut in ((lambda inner: {"k": inner}, "{...}"), (lambda inner: [inner], "[...]")):
        value: object = 1
        shown: object = cut
        for level in range(14):
            value = wrap(value)
            shown = wrap(shown) if level < 12 else shown
        assert redact(value) == shown


def test_secrets_as_names_are_numbered() -> None:
    secrets = {f"sk-{letter * 16}": number for number, letter in enumerate("abc")}
    numbered = {REDACTED: 0, f"{REDACTED} (2)": 1, f"{REDACTED} (3)": 2}
    assert redact(secrets) == numbered
    known = {f"known-value-{number}": number for number in range(3)}
    assert json.loads(preview(known, list(known)) or "") == numbered


def test_secrets_are_hidden_beside_what_is_shown() -> None:
    shown = preview(
        {
            "c": "curl -H 'Authorization: Basic dXNlcjpwYXNz' http://me:hunter2@host/?token=a1b2c3d4",
            "password": "P@ss$w0rd",
            "credentials": {"token_url": "https://id.example/t", "client_secret": "s3cr3t"},
            "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        }
    )
    assert shown is not None
    assert not [word for word in ("dXNl", "hunter2", "a1b2", "P@ss", "s3cr3t", "c2lnb") if word in shown]
    assert "https://id.example/t" in shown
    assert "@host/?token=" in shown
    pgp = "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYBF\n-----END PGP PRIVATE KEY BLOCK-----"
    assert "lQOYBF" not in str(redact({"x": pgp}))


@pytest.mark.parametrize(
    "text",
    [
        '{"password": "hunter2", "n": 1}',
        json.dumps({"body": json.dumps({"apiKey": "hunter2"})}),
        json.dumps(json.dumps({"body": json.dumps({"auth_token": "hunter2"})})),
        "PGPASSWORD=hunter2 psql -h db",
        "curl -d client_secret='hunter2' x",
        "password = 'hunter2'",
    ],
)
def test_a_record_has_no_value_after_the_name_of_a_secret_and_an_approver_sees_what_follows(
    text: str,
) -> None:
    assert "hunter2" not in str(redact({"x": text}))
    command = text.replace("hunter2", "$(reboot)")
    assert "$(reboot)" in (preview({"x": command}) or "")
