"""What looks like something else is told to an approver, and text of another alphabet can be read as ever."""

# ruff: noqa: RUF001 - letters that look like others are what is tested

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.mcp.identifiers import name_fault
from actions.mcp.look_alikes import visible
from actions.mcp.redaction import preview

COPY = "\u0441\u043e\u0440\u0443"
"""Four Cyrillic letters that look like `copy`."""
ESCAPED = r"[\u0441\u043e\u0440\u0443]"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"{COPY} /etc/passwd", f"{COPY}{ESCAPED} /etc/passwd"),
        (f"/usr/bin/{COPY}.sh", f"/usr/bin/{COPY}{ESCAPED}.sh"),
        ("\u0421:/x", r"С[\u0421]:/x"),
        ("tar -\u0441 x", r"tar -с[\u0441] x"),
        ("\u0441", r"с[\u0441]"),
        ("\u03bd\u03b1\u03bd", r"ναν[\u03bd\u03b1\u03bd]"),
        ("\U0001d68c\U0001d698\U0001d699\U0001d6a2", r"𝚌𝚘𝚙𝚢[\U0001d68c\U0001d698\U0001d699\U0001d6a2]"),
        ("\u217d\u217ep", r"ⅽⅾp[\u217d\u217e\u0070]"),
        ("\u1d04\u1d0fpy", r"ᴄᴏpy[\u1d04\u1d0f\u0070\u0079]"),
        ("\uff43\uff4f\uff50\uff59", r"ｃｏｐｙ[\uff43\uff4f\uff50\uff59]"),
        ("\u0441\u0440 /a /b", r"ср[\u0441\u0440] /a /b"),
        ("\u0441\u0440 /привет", r"ср[\u0441\u0440] /привет"),
        ("\ufb01le", r"ﬁle[\ufb01\u006c\u0065]"),
    ],
)
def test_a_word_that_looks_like_a_latin_one_has_its_escapes_beside_it(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Встреча с директором в 10 часов, а потом обед.",
        "Ich möchte die Größe ändern: ½ l, 1º, naïve café.",
        "Το αρχείο δεν βρέθηκε",
        "文件已复制，请检查（第一部分）！",
        "الملف غير موجود",
        "Խնդրում եմ",
        "kapı, ığdır, łódź, straße",
    ],
)
def test_ordinary_text_of_any_alphabet_is_shown_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_keys_and_values_of_a_call_are_shown_so() -> None:
    shown = preview({"path": "/a", "\u0440\u0430\u0440": f"{COPY} /b"})
    assert shown is not None
    assert r"рар[\u0440\u0430\u0440]" in shown
    assert f"{COPY}{ESCAPED} /b" in shown
    json.loads(shown)


@pytest.mark.parametrize(
    "name", [COPY, "\u0441", f"{COPY}_\u0440\u0430\u0440", "\u0391\u0392", "\u1d04\u1d0fpy"]
)
def test_a_name_with_such_a_word_is_refused(name: str) -> None:
    assert name_fault(name) == "the name has a word that looks like a Latin one"


@pytest.mark.parametrize("name", ["копировать", "αντιγραφή", "複製", "größe", "copy"])
def test_a_name_that_looks_like_itself_is_not(name: str) -> None:
    assert name_fault(name) is None


@given(st.text())
def test_nothing_of_a_text_is_lost_and_only_known_kinds_of_escapes_are_added(text: str) -> None:
    shown = visible(text)
    assert len(shown) >= len(text)
    assert visible(text) == shown
    if text.isascii() and text.isprintable():
        assert shown == text
