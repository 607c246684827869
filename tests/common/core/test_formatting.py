import pytest

from common.core import formatting


def test_mean_and_sample_deviation():
    assert formatting.mean_sd([2, 4, 4, 4, 5, 5, 7, 9]) == (5, pytest.approx((32 / 7) ** 0.5))
    assert formatting.mean_sd([0.5]) == (0.5, None)


@pytest.mark.parametrize(
    ("values", "text"),
    [([], "–"), ([0.66949], "66.9"), ([0.0], "0.0"), ([0.6, 0.7], "65.0 ± 7.1"), ([0.5, 0.5], "50.0 ± 0.0")],
)
def test_percent(values, text):
    assert formatting.percent(values) == text


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (0, "0"), (22_713_986.0, "22,713,986")])
def test_count(value, text):
    assert formatting.count(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7620, "2 h 07 min"),
    ],
)
def test_duration(seconds, text):
    assert formatting.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (640e6, "640 MB"), (1.34e9, "1.3 GB"), (1e9, "1.0 GB"), (0, "0 MB")]
)
def test_size(value, text):
    assert formatting.size(value) == text


def test_decimal():
    assert formatting.decimal([]) == "–"
    assert formatting.decimal([0.41249]) == "0.412"
    assert formatting.decimal([0.1, 0.3]) == "0.200 ± 0.141"


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
