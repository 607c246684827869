import pytest

from common.core import formatting


def test_text_table_is_aligned():
    text = formatting.text_table(["model", "n"], [["a", "1"], ["long name", "1,000"]])
    assert text.splitlines() == [
        "model          n",
        "─────────  ─────",
        "a              1",
        "long name  1,000",
    ]


def test_text_table_without_rows():
    assert formatting.text_table(["a", "b"], []).splitlines() == ["a  b", "─  ─"]


def test_markdown_table_escapes_pipes():
    text = formatting.markdown_table(["model", "n"], [["a|b", "1"]])
    assert text.splitlines() == ["| model | n |", "| --- | ---: |", "| a\\|b | 1 |"]


def test_a_row_of_another_length_is_a_bug():
    with pytest.raises(ValueError, match="zip"):
        formatting.text_table(["a", "b"], [["1"]])
