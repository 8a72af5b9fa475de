"""Characters that do not show, or show as others: in names refused, in what an approver reads escaped. Pure.

Source of what looks alike: Unicode Technical Standard 39, and the shapes of small capitals.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import Final

INVISIBLE: Final = re.compile(
    r"[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Characters that isprintable() passes and that show as nothing: Default_Ignorable_Code_Point, and U+2800."""
_ALPHABETS: Final = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC")
"""Scripts with letters that look like those of another one."""
_LATIN_SHAPES: Final = frozenset(
    "\u0430\u0441\u0501\u0435\u0433\u04bb\u0456\u0458\u04cf\u043e\u0440\u051b\u0455\u0443\u04af\u0445\u0461\u0475\u051d"
    "\u0410\u0412\u0421\u0415\u041d\u0406\u0408\u041a\u041c\u041e\u0420\u0405\u0422\u0425\u0423\u04ae\u051c\u050c\u051a"
    "\u0474\u04c0\u042c"  # Cyrillic
    "\u03b1\u03b3\u03b9\u03bd\u03bf\u03c1\u03c3\u03c5\u03f2\u03f3\u03f1"
    "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u03f9\u037f\u03dc"  # Greek
    "\u0585\u0578\u057d\u0581\u0570\u0575\u0563\u0566\u0561\u0555\u054d\u054f\u053c"  # Armenian
    "\u13a0\u13a1\u13a2\u13aa\u13ab\u13ac\u13b3\u13b7\u13bb\u13c0\u13c3\u13cf\u13d2\u13d4\u13d5\u13d9\u13da\u13de"
    "\u13df\u13e2\u13e6\u13e7\u13f3\u13f4"  # Cherokee
    "\u2c80\u2c82\u2c8e\u2c92\u2c94\u2c98\u2c9a\u2c9e\u2c9f\u2ca2\u2ca3\u2ca4\u2ca5\u2ca6\u2ca8\u2cac\u2cad"  # Coptic
    "\u0251\u0261\u026a\u0269\u028f\u1d04\u1d0f\u1d1c\u1d20\u1d21\u1d22\ua731"  # Latin: script letters, small capitals
)
"""Letters beyond ASCII that look like one of ASCII."""
_WORD: Final = re.compile(r"[^\W\d_]+")
"""Letters, and numerals made of letters."""
_ORDINALS: Final = frozenset("\u00aa\u00ba")
_SHORT: Final = 2
"""Letters of words that many alphabets have in any sentence: Russian "with", Greek "the"."""


def alphabets(text: str) -> set[str]:
    """Return the scripts of the letters of a text, as far as they look alike."""
    return {script for char in text if (script := _alphabet(char)) is not None}


def has_latin_shapes(text: str) -> bool:
    """Tell whether a word of a text has letters beyond ASCII, and all that it has look like ASCII's."""
    return any(map(_is_latin_in_shape, _WORD.findall(text)))


def visible(text: str) -> str:
    """Escape what is not seen as it is; line breaks, tabs and spaces stay.

    Invisible characters and direction marks; characters that show as another one (U+037E as `;`, a letter with a
    separate accent); in a word with letters of two alphabets those beyond ASCII. A word that looks like one of ASCII's
    letters has its escapes beside it, in brackets, for it may be what it is; none if it is short and stands beside a
    word of its alphabet that looks like none of ASCII's.
    """
    has_marks = not unicodedata.is_normalized("NFC", text)
    shown: list[str] = []
    end = 0
    words = list(_WORD.finditer(text))
    for at, found in enumerate(words):
        word = found[0]
        shown.append(_seen(text[end : found.start()], has_marks=has_marks))
        end = found.end()
        if word.isascii():
            shown.append(word)
        elif len(alphabets(word)) > 1:
            shown.extend(char if char.isascii() else _escape(char) for char in word)
        else:
            seen = _seen(word, has_marks=has_marks)
            shown.append(seen)
            if seen == word and _is_latin_in_shape(word) and not _is_in_sentence(words, at, text):
                shown.append(f"[{''.join(map(_escape, word))}]")
    shown.append(_seen(text[end:], has_marks=has_marks))
    return "".join(shown)


def _seen(text: str, *, has_marks: bool) -> str:
    """Escape the characters that do not show, or show as others."""
    if text.isprintable() and (text.isascii() or not (has_marks or INVISIBLE.search(text))):
        return text
    return "".join(
        char
        if (char in "\n\t" or char.isprintable() if char.isascii() else _is_seen(char, has_marks=has_marks))
        else _escape(char)
        for char in text
    )


def _is_in_sentence(words: list[re.Match[str]], at: int, text: str) -> bool:
    """Tell whether a word is short and a blank away from one of its alphabet that looks like none of ASCII's."""
    word = words[at]
    if len(word[0]) > _SHORT:
        return False
    near = []
    if at and text[words[at - 1].end() : word.start()] == " ":
        near.append(words[at - 1][0])
    if at + 1 < len(words) and text[word.end() : words[at + 1].start()] == " ":
        near.append(words[at + 1][0])
    return any(
        alphabets(one) == alphabets(word[0]) and not _is_latin_in_shape(one)
        for one in near
        if not one.isascii()
    )


def _is_latin_in_shape(word: str) -> bool:
    return not word.isascii() and all(map(_looks_latin, word))


@functools.lru_cache(maxsize=4_096)
def _looks_latin(char: str) -> bool:
    """Tell whether a letter is one of ASCII, or looks like one or several."""
    if char.isascii() or char in _LATIN_SHAPES:
        return True
    plain = unicodedata.normalize("NFKC", char)  # of mathematical letters, Roman numerals, ligatures
    return plain.isascii() and plain.isalpha() and char not in _ORDINALS


@functools.lru_cache(maxsize=4_096)
def _alphabet(char: str) -> str | None:
    """Return the script of a letter, if it is one of those that look alike."""
    script = unicodedata.name(char, "").partition(" ")[0]
    return script if script in _ALPHABETS and char.isalpha() else None


def _is_seen(char: str, *, has_marks: bool) -> bool:
    """Tell whether a character beyond ASCII shows, and as no other one."""
    return (
        char.isprintable()
        and INVISIBLE.match(char) is None
        and not (has_marks and (unicodedata.combining(char) or unicodedata.normalize("NFC", char) != char))
    )


def _escape(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 1 << 16 else f"\\U{ord(char):08x}"
