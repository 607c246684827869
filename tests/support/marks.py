"""Choose which cases of a family are fast."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow_except(fast: Iterable[Any], cases: Iterable[Any]) -> list[Any]:
    """Return the cases for `pytest.mark.parametrize`, all marked slow but those in `fast`, which represent the family.

    A case is one value, or a tuple of the values of several parameters.
    """
    fast, cases = list(fast), list(cases)
    assert all(case in cases for case in fast), "a fast case is none of the family's"
    slow = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [
        case if case in fast else pytest.param(*values, marks=pytest.mark.slow)
        for case, values in zip(cases, slow, strict=True)
    ]
