"""Formulas in csv: none in columns of ours; the user's own are counted, and said."""

import pandas as pd
import pytest

from common.data.safe_csv import Formulas, is_formula, without_formulas


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("=1+1", True),
        ("@SUM(A1)", True),
        ("+cmd|' /C calc'!A0", True),
        ("-x", True),
        ("\t=1", True),
        ("\r=1", True),
        ("-1", False),
        ("+1.5e3", False),
        ("-", False),
        ("+", False),
        ("con", False),
        ("a=1", False),
        ("", False),
        (-1, False),
        (None, False),
    ],
)
def test_what_is_a_formula(cell, expected):
    assert is_formula(cell) is expected
    assert without_formulas([cell]) == [f"'{cell}" if expected else cell]


def test_the_note():
    formulas = Formulas()
    frame = pd.DataFrame({"a": ["=1", "x", None], "b": [1, 2, 3], "c": ["@y", "-z", "y"]})
    formulas.add(frame, ["b"])
    assert formulas.note("out.csv") == ""
    formulas.add(frame, ["a", "b", "c"])
    assert formulas.note("out.csv").startswith("out.csv: 3 cells of the input's own columns begin with = + - or @")
    assert "(column 'a': '=1')" in formulas.note("out.csv")
