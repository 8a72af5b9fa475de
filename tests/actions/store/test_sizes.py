"""What is recorded has a size: texts are cut, a large object keeps its structure or leaves its digest."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.store.sizes import MAX_MARK_CHARS, MAX_TEXT_CHARS, bounded, canonical, mark, text


def test_json_is_written_one_way() -> None:
    assert canonical({"b": [1, None, "é"], "a": {"d": True, "c": 1.5}}) == (
        '{"a":{"c":1.5,"d":true},"b":[1,null,"\\u00e9"]}'
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical([float("nan")])


def test_a_text_is_cut_and_made_one_that_every_database_takes() -> None:
    assert text("a" * MAX_TEXT_CHARS) == "a" * MAX_TEXT_CHARS
    assert text("a" * (MAX_TEXT_CHARS + 1)) == "a" * (MAX_TEXT_CHARS - 1) + "…"
    assert text("é\ud800") == "é\\ud800"


def test_a_long_mark_is_told_from_others_that_begin_alike() -> None:
    assert mark("a" * MAX_MARK_CHARS) == "a" * MAX_MARK_CHARS
    long, other = "a" * (MAX_MARK_CHARS + 1), "a" * MAX_MARK_CHARS + "b"
    assert mark(long) == "a" * 64 + "…" + hashlib.sha256(long.encode()).hexdigest()[:32]
    assert mark(long) != mark(other)
    assert mark("\ud800" * 201).startswith("\ud800" * 64 + "…")


def size(value: dict[str, Any]) -> int:
    return len(canonical(value))


def test_what_is_small_enough_is_kept_whole() -> None:
    value = {"b": "x" * 5_000, "a": list(range(200))}
    assert bounded(value, size(value)) == (value, canonical(value))
    assert bounded(value, size(value) - 1)[0] != value


@pytest.mark.parametrize(
    ("most", "chars", "items"), [(10_000, 1024, 64), (1_500, 256, 32), (500, 64, 16), (150, 16, 4)]
)
def test_a_larger_one_is_cut_no_shorter_than_it_must_be(most: int, chars: int, items: int) -> None:
    value = {"t": "x" * 8_000, "l": list(range(3_000)), "d": {f"{n:04}": n for n in range(1_000)}}
    shorter, written = bounded(value, most)
    assert written == canonical(shorter)
    assert len(written) <= most
    assert shorter == {
        "t": "x" * chars + "…",
        "l": list(range(items)),
        "d": {f"{n:04}": n for n in range(items)},
        "cut_from_bytes": size(value),
    }


def test_texts_names_and_numbers_at_the_limit_stay_as_they_are() -> None:
    wide = {"x": "y" * 20_000}
    kept = {"t": "x" * 1024, "k" * 1024: 1, "n": 1 << 4095, "f": -1.5, "b": True, "l": [0] * 64, "z": None}
    shorter, _ = bounded({**kept, **wide}, 10_000)
    assert shorter == {**kept, "x": "y" * 1024 + "…", "cut_from_bytes": size({**kept, **wide})}
    longer = {"t": "x" * 1025, "k" * 1025: 1, "n": 1 << 4096, "l": [0] * 65}
    shorter, _ = bounded({**longer, **wide}, 10_000)
    assert (shorter["t"], shorter["k" * 1024], shorter["n"], shorter["l"]) == (
        "x" * 1024 + "…",
        1,
        "…",
        [0] * 64,
    )
    assert bounded({"l": ("y" * 20_000, 1), **wide}, 10_000)[0]["l"] == ["y" * 1024 + "…", 1]


def test_six_levels_are_kept() -> None:
    for wrap in (lambda inner: {"k": inner}, lambda inner: [inner]):
        value: Any = "deep"
        shown: Any = "…"
        for level in range(8):
            value = wrap(value)
            shown = wrap(shown) if level < 5 else shown
        shorter, _ = bounded({"v": value, "x": "y" * 20_000}, 10_000)
        assert shorter["v"] == shown
        just: Any = "deep"
        for _ in range(5):
            just = wrap(just)
        assert bounded({"v": just, "x": "y" * 20_000}, 10_000)[0]["v"] == just


def test_what_is_still_too_large_leaves_its_size_and_its_digest() -> None:
    value = {f"{n}": "x" * 100 for n in range(100)}
    written = canonical(value)
    named, short = bounded(value, 60)
    assert named == {"cut_from_bytes": len(written), "sha256": hashlib.sha256(written.encode()).hexdigest()}
    assert short == canonical(named)


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=2_000),
            lambda inner: (
                st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5)
            ),
        ),
        max_size=5,
    ),
    st.integers(150, 3_000),
)
def test_any_object_is_bounded_json(value: dict[str, Any], most: int) -> None:
    shorter, written = bounded(value, most)
    assert len(written) <= most
    assert json.loads(written) == shorter
