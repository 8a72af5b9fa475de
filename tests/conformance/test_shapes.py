from tests.conformance.shapes import differences


def test_comparison_notices_missing_and_stray_keys_other_types_and_other_words() -> None:
    expected = {"type": "a", "n": 1, "title": "No", "deep": [{"x": None}], "gone": 1}
    actual = {"type": "a", "n": "1", "title": "Yes", "deep": [{"x": 1}], "more": 1}
    assert sorted(differences(expected, actual)) == [
        ".deep[0].x is 1 instead of something like None",
        ".gone is missing",
        ".more is too much",
        ".n is '1' instead of something like 1",
        ".title is 'Yes' instead of 'No'",
    ]
