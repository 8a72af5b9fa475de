"""Product text and names use the words of the field: those of tests/contracts/words.py are found nowhere."""

import io
import keyword
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.words import AVOIDED, IN_NAMES, found

ROOT = Path(__file__).parents[2]
PRODUCT = ("exporter", "actions", "dashboards", "compose")
TEXT = {
    ".py",
    ".md",
    ".json",
    ".yaml",
    ".yml",
    ".toml",
    ".js",
    ".ini",
    ".service",
    ".example",
    ".html",
    ".tpl",
    ".txt",
}
NOT_OURS = {"node_modules", "__pycache__", "secrets"}


def files() -> Iterator[Path]:
    """Give every file with text that a person reads: code, docs, boards, rules, settings."""
    yield from (ROOT / "README.md", ROOT / "pyproject.toml")
    for folder in (*PRODUCT, "docs"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix in TEXT and not NOT_OURS & set(path.parts):
                yield path


def test_text_uses_the_words_of_the_field() -> None:
    read = 0
    wrong = []
    for path in files():
        read += 1
        wrong += [f"{path.relative_to(ROOT)} {one}" for one in found(path.read_text(encoding="utf-8"))]
    assert read > 400
    assert not wrong, "\n".join(wrong)


def parts(name: str) -> set[str]:
    """Split a name, in snake or camel case, into its words."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def test_names_use_the_words_of_the_field() -> None:
    wrong = set()
    for folder in PRODUCT:
        for path in (ROOT / folder).rglob("*.py"):
            names = {path.stem} | {
                token.string
                for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
                if token.type == tokenize.NAME and not keyword.iskeyword(token.string)
            }
            wrong |= {f"{path.relative_to(ROOT)}: {name}" for name in names if IN_NAMES & parts(name)}
    assert not wrong, "\n".join(sorted(wrong))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Is the card well?", ["'card'", "'well'"]),
        ("a state machine, a virtual machine and a model card", []),
        ("drm/card0 and /sys/class/drm/card1", []),
        ("Half of requests, 95 of 100", ["'Half of requests'", "'95 of 100'"]),
        ("as well as a well-known name", []),
        ("Knows no route. It wants a token.", ["'wants a token'", "'Knows no'"]),
    ],
)
def test_the_list_finds_the_old_words_and_leaves_terms_of_the_field(text: str, expected: list[str]) -> None:
    assert [one.split(": ")[1].split(";")[0] for one in found(text)] == expected


def test_names_are_split_into_words() -> None:
    assert parts("MachineWatch") == {"machine", "watch"}
    assert parts("_on_CARD_lost") == {"on", "card", "lost"}


def test_each_avoided_word_names_its_replacement() -> None:
    assert all(instead and not found(instead) for instead in AVOIDED.values())
