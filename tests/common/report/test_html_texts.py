"""report/html_texts.py: the texts of rows, and how they are shortened."""

from common.report import html_texts


def test_texts_that_fit_stay_whole():
    columns = html_texts.columns(["text"], [["a" * 50], ["b" * 10]])
    assert html_texts.shorten(columns, 60) == ""
    assert columns[0]["texts"] == ["a" * 50, "b" * 10]


def test_long_texts_are_cut_at_one_length():
    columns = html_texts.columns(["text"], [["a" * 50], ["b" * 10], ["ä" * 20]])
    note = html_texts.shorten(columns, 61)
    # At 17 characters: 17 + 10 + 34 bytes are exactly 61.
    assert columns[0]["texts"] == ["a" * 17 + "…", "b" * 10, "ä" * 17 + "…"]
    assert note == "2 of 3 texts are longer than 17 characters and are cut there."


def test_a_lone_surrogate_is_no_error():
    assert html_texts.shorten(html_texts.columns(["text"], [["\ud800 half a pair"]]), 5) != ""
