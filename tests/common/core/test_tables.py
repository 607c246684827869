import pytest

from common.core import tables


def test_text_table_is_aligned():
    text = tables.text_table(["model", "n"], [["a", "1"], ["long name", "1,000"]])
    assert text.splitlines() == [
        "model          n",
        "─────────  ─────",
        "a              1",
        "long name  1,000",
    ]


def test_text_table_without_rows():
    assert tables.text_table(["a", "b"], []).splitlines() == ["a  b", "─  ─"]


def test_markdown_table_escapes_pipes():
    text = tables.markdown_table(["model", "n"], [["a|b", "1"]])
    assert text.splitlines() == ["| model | n |", "| --- | ---: |", "| a\\|b | 1 |"]


def test_a_row_of_another_length_is_a_bug():
    with pytest.raises(ValueError, match="zip"):
        tables.text_table(["a", "b"], [["1"]])
