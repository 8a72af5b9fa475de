"""Lenient decoding: an odd part of a message costs that part, and nothing is raised but what is said."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.llmster import lenient
from tests.exporter.strategies import JSON


class Inner(msgspec.Struct, rename="camel"):
    count: int
    odd_name: str | None = None


class Outer(msgspec.Struct, rename="camel"):
    name: str
    size_bytes: int | None = None
    inner: Inner | None = None
    parts: tuple[Inner, ...] = ()


def read(value: object) -> tuple[Outer, bool]:
    return lenient.decode(json.dumps(value), Outer)


def test_what_is_well_formed_is_not_called_odd() -> None:
    assert read({"name": "a", "sizeBytes": 3, "new": []}) == (Outer("a", 3), False)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"name": "a", "sizeBytes": "3"}, Outer("a")),
        ({"name": "a", "sizeBytes": 2.5}, Outer("a")),
        ({"name": "a", "inner": {"count": 1, "oddName": 4}}, Outer("a", inner=Inner(1))),
        ({"name": "a", "inner": {"count": "x"}, "sizeBytes": 3}, Outer("a", 3)),
        ({"name": "a", "inner": [], "sizeBytes": 3}, Outer("a", 3)),
        ({"name": "a", "parts": [{"count": None}], "sizeBytes": 3}, Outer("a", 3)),
    ],
)
def test_an_optional_field_of_another_type_counts_as_not_sent(value: object, expected: Outer) -> None:
    assert read(value) == (expected, True)


@pytest.mark.parametrize("value", [{}, {"name": 1}, {"sizeBytes": 1}, [], "a", None, 5])
def test_a_required_field_that_does_not_fit_is_an_error(value: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        read(value)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (rb'{"name":"cut \ud83d"}', "cut \ufffd"),
        (b'{"name":"\xff"}', "\ufffd"),
        ('{"name":"\ud83d"}', "\ufffd"),
        (rb'{"name":"\\ud83d"}', r"\ud83d"),
    ],
)
def test_what_is_no_unicode_costs_a_character(text: bytes | str, name: str) -> None:
    value, _ = lenient.decode(text, Outer)

    assert value.name == name
    msgspec.json.encode(value)


def test_a_number_that_json_does_not_know_costs_its_field() -> None:
    assert lenient.decode(b'{"name":"a","sizeBytes":NaN}', Outer) == (Outer("a"), True)


@given(st.binary() | st.text() | JSON.map(json.dumps))
def test_only_what_is_said_is_raised(data: bytes | str) -> None:
    try:
        value, _ = lenient.decode(data, Outer)
    except msgspec.DecodeError:
        return
    assert isinstance(value.name, str)


def test_deep_nesting_is_an_error_like_any_other() -> None:
    with pytest.raises(msgspec.DecodeError):
        lenient.decode('{"name":' + "[" * 200_000, Outer)


def test_entries_that_fit_are_kept_and_the_others_left_out() -> None:
    value = {
        "name": "a",
        "parts": [{"count": 1}, {"count": None}, {"count": 3, "oddName": 5}],
    }
    assert read(value) == (Outer("a", parts=(Inner(1), Inner(3))), True)


def test_an_escape_beside_half_a_pair_is_kept() -> None:
    assert lenient.mended(rb'"\n\ud83d\ude00\ud83d"') == r'"\n\ud83d\ude00\ufffd"'


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("{", r"^not JSON \(JSONDecodeError\)$"),
        ("[" * 100_000, r"^not JSON \(RecursionError\)$"),
        ("5", "^Outer: not an object$"),
        ('{"name": 5}', r"^Outer\.name: another type$"),
        ("{}", "^Outer[.].*: missing$"),
    ],
)
def test_an_error_names_what_does_not_fit_and_no_value(data: str, words: str) -> None:
    with pytest.raises(msgspec.DecodeError, match=words):
        lenient.decode(data, Outer)
