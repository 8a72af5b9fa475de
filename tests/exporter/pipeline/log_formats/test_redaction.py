"""Redaction: secrets are masked, and the work grows no faster than the text."""

from collections.abc import Callable
from typing import Any

import pytest

from exporter.pipeline.log_formats import redaction
from exporter.shared.linear import Pattern


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("mail me.you+x@mail.example.org now", "mail [email] now"),
        ("sk-lm-Ab3dE6gH:0123456789abcdefghij", "[token]"),
        ("Authorization: Bearer abcdefgh12345", "Authorization: Bearer [token]"),
        ("ghp_abcdefgh1234 and AKIAABCDEFGH1234", "[token] and [token]"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.SflKxw", "[token]"),
        ('{"api_key": "hunter22"}', '{"api_key": "[secret]"}'),
        ("password=hunter22;", "password=[secret];"),
        ("-----BEGIN A KEY-----\nx\n-----END A KEY----- y", "[key] y"),
        ("x -----BEGIN A KEY-----\nnever closed", "x [key]"),
        ("Zürich 🙂 token: geheim123 ok", "Zürich 🙂 token: [secret] ok"),
        ("half a pair \ud83d password=hunter22", "half a pair ? password=[secret]"),
        ("nothing to hide @ all", "nothing to hide @ all"),
    ],
)
def test_what_looks_like_a_secret_is_masked_and_nothing_else(text: str, masked: str) -> None:
    assert redaction.redact(text) == masked


@pytest.mark.parametrize(
    "unit", ["-eyJ", "-----BEGIN A-----", "sk-", "a@", "bearer ", "a.", "password ", "\n"]
)
def test_twice_the_text_is_twice_the_work(monkeypatch: pytest.MonkeyPatch, unit: str) -> None:
    """Every pattern is RE2's, whose work per character is bounded, and sees the text once."""
    work = 0

    class Counting(Pattern):
        def replace(self, with_: Callable[[Any], str], text: str) -> str:
            nonlocal work
            work += len(text)
            return super().replace(with_, text)

    counting = tuple((Counting(pattern.text), mask) for pattern, mask in redaction._SECRETS)
    monkeypatch.setattr(redaction, "_SECRETS", counting)
    spent: list[int] = []
    for repeats in (10_000, 20_000):
        work = 0
        redaction.redact(unit * repeats)
        spent.append(work)
    assert spent[0] < spent[1] <= 2 * spent[0]


def test_with_a_limit_only_so_much_is_looked_at_and_no_half_secret_is_left() -> None:
    text = "a@b.cc " * 1_000
    assert redaction.redact(text, limit_chars=3_500) == "[email] " * 1_000
    shortened = redaction.redact("x" * 2_993 + "sk-" + "a" * 5_000, limit_chars=1_000)
    assert shortened == "x" * 2_000
    assert redaction.redact("x" * 3_000, limit_chars=1_000) == "x" * 3_000
    assert redaction.redact("x" * 3_001, limit_chars=1_000) == "x" * 2_000
    assert redaction.redact("x" * 5_000) == "x" * 5_000
