"""Makes structured input of bytes: each byte decides something, and where bytes end every decision is the first one.

Knows no target. Hypothesis hands in the bytes in CI, atheris hands them in where it looks for new branches, and a file
in found/ hands in those of an old crash: the same bytes always make the same input.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeVar

T = TypeVar("T")

NUMBERS: Final[tuple[float, ...]] = (
    0,
    1,
    -1,
    2,
    255,
    65_536,
    2**31,
    2**53 + 1,
    2**63 - 1,
    2**64,
    -(2**63),
    10**13,
    10**14 - 1,
    10**20,
    0.5,
    -0.25,
    1e-9,
    1e18,
    1e300,
)
"""Numbers at which programs of this kind change their mind."""

ODD_CHARS: Final = (
    "\0\t\n\r\x1b\x7f\u0085\u00a0\u00b2\u0130\u0663\u2024\u2028\u3000\ufeff\uff0e\uff0f"  # one by one
    "\U0001f600 .:/\\%@'\"[]{}"
)
"""Control characters, blanks, digits and marks that two programs are likely to read differently."""

LONE_SURROGATE: Final = "\ud83d"


class Choices:
    """One input, read from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_used_up(self) -> bool:
        """Whether every further decision will be the first one."""
        return self._at >= len(self._data)

    def byte(self) -> int:
        """Take one byte, 0 when there is none."""
        if self._at >= len(self._data):
            return 0
        value = self._data[self._at]
        self._at += 1
        return value

    def upto(self, most: int) -> int:
        """Choose a number from 0 to `most`."""
        value = self.byte() if most < 256 else self.byte() * 256 + self.byte()
        return value % (most + 1)

    def flag(self) -> bool:
        """Choose between no and yes."""
        return self.byte() & 1 == 1

    def rarely(self) -> bool:
        """Choose yes about once in sixteen times."""
        return self.byte() & 15 == 15

    def pick(self, options: Sequence[T]) -> T:
        """Choose one of the options."""
        return options[self.upto(len(options) - 1)]

    def number(self) -> float:
        """Choose a number, one of the interesting ones as often as not."""
        if self.flag():
            return self.pick(NUMBERS)
        return self.upto(65_535)

    def raw(self, most: int) -> bytes:
        """Take up to `most` bytes as they are."""
        size = min(self.upto(most), len(self._data) - self._at)
        self._at += size
        return self._data[self._at - size : self._at]

    def rest(self) -> bytes:
        """Take all that is left."""
        left = self._data[self._at :]
        self._at = len(self._data)
        return left

    def text(self, most: int = 24, *, surrogates: bool = False) -> str:
        """Choose text: plain letters, odd characters, or whatever the bytes are in UTF-8."""
        manner = self.upto(3)
        if manner == 0:
            return "".join(chr(97 + one % 26) for one in self.raw(most))
        if manner == 1:
            odd = ODD_CHARS + LONE_SURROGATE if surrogates else ODD_CHARS
            return "".join(odd[one % len(odd)] if one & 128 else chr(32 + one % 95) for one in self.raw(most))
        return self.raw(most).decode("utf-8", "replace")

    def pieces(self, vocabulary: Sequence[str], most: int = 24) -> str:
        """Choose text made of the vocabulary, with other text between."""
        return "".join(
            self.pick(vocabulary) if self.byte() & 7 else self.text(8) for _ in range(self.upto(most))
        )

    def some(self, options: Sequence[T], most: int = 6) -> list[T]:
        """Choose up to `most` of the options, repeated or not, in any order."""
        return [self.pick(options) for _ in range(self.upto(most))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Put items into any order."""
        left = list(items)
        return [left.pop(self.upto(len(left) - 1)) for _ in items]

    def json(self, depth: int = 3, *, surrogates: bool = False) -> Any:
        """Choose any JSON value."""
        kind = self.upto(8 if depth else 5)
        if kind == 0:
            return None
        if kind == 1:
            return self.flag()
        if kind in (2, 3):
            return self.number()
        if kind in (4, 5):
            return self.text(surrogates=surrogates)
        if kind == 6:
            return [self.json(depth - 1, surrogates=surrogates) for _ in range(self.upto(3))]
        return {self.text(8): self.json(depth - 1, surrogates=surrogates) for _ in range(self.upto(3))}
