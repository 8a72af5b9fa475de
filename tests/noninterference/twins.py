"""Twin texts: the same shape, other characters.

A twin maps each character to another of its class and of the same length in UTF-8, one to one. So lengths, prefixes
and repetitions are the same in both, and no character is. What a run is made of beside text (markers, numbers, times,
names) comes from its shape, which both twins share.
"""

import base64
import json
from collections.abc import Callable, Mapping
from random import Random
from typing import Final
from urllib.parse import quote

CLASSES: Final = (
    "abcdefghijklmnopqrstuvwxyz",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "0123456789",
    "àâçéèêëîïôûùüÿñæœßøå",
    "бвгджзийклмнптфцчшщы",
    "一丁七三上下不世中主久之乎也书了予事二",
    "😀😁😂😃😄😅😆😇😈😉😊😋😌😍",
)
"""Characters that stand for each other: each class has one length in UTF-8 and in UTF-16."""

ENCODINGS: Final[Mapping[str, Callable[[str], str]]] = {
    "plain": str,
    "json": lambda text: json.dumps(text)[1:-1],
    "percent": lambda text: quote(text, safe=""),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "utf-16": lambda text: text.encode("utf-16-be").hex(" "),
    "html": lambda text: "".join(f"&#{ord(character):06d};" for character in text),
}
"""How a text is written where it stands."""


class Twin:
    """One of two twins. `turn` 0 writes texts as they are, 1 their twins."""

    def __init__(self, shape: Random, turn: int) -> None:
        self.shape = shape
        """Decides everything; both twins are given one of the same seed."""
        self._table = {
            ord(one): cls[(at + turn * (1 + offset)) % len(cls)]
            for cls, offset in zip(CLASSES, (7, 11, 3, 5, 9, 4, 6), strict=True)
            for at, one in enumerate(cls)
        }

    def text(self, most: int = 60) -> str:
        """Write some words; never a character of markup."""
        words = []
        for _ in range(self.shape.randint(1, max(1, most // 8))):
            letters = self.shape.choice(CLASSES)
            # Three characters at least, so that no word of a log format comes about.
            words.append("".join(self.shape.choices(letters, k=self.shape.randint(4, 12))))
        return " ".join(words).translate(self._table)

    def encoded(self, most: int = 60) -> str:
        """Write some words in one of ENCODINGS."""
        return encode(self.text(most), self.shape.choice(tuple(ENCODINGS)))


def encode(text: str, encoding: str) -> str:
    """Write a text so that no character of markup is in it but the encoding's own."""
    return ENCODINGS[encoding](text)
