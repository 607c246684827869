"""The smallest difference is found as often as promised, and check prints it."""

import math

import numpy as np
import pytest

from common.evaluation import paired_tests, smallest_difference


@pytest.mark.parametrize("rows", [225, 2000])
def test_mcnemar_finds_it_four_times_in_five(rows):
    difference, apart, rng = (
        smallest_difference.paired(rows),
        smallest_difference.DISAGREEMENT,
        np.random.default_rng(0),
    )
    shares = [(apart + difference) / 2, (apart - difference) / 2, 1 - apart]
    found = 0
    for first, second, _ in rng.multinomial(rows, shares, size=400):
        gold, one, other = (np.zeros(rows, dtype=int) for _ in range(3))
        one[:second], other[second : second + first] = 1, 1
        found += paired_tests.mcnemar(gold, one, other).p <= smallest_difference.LEVEL
    assert 0.72 <= found / 400 <= 0.86  # the exact test is a little weaker than its approximation


def test_unpaired_is_the_textbook_formula():
    assert smallest_difference.unpaired(200, 0.5) == pytest.approx((1.95996 + 0.84162) * math.sqrt(0.5 / 200), abs=1e-5)


def test_pairs_show_smaller_differences_and_more_rows_too():
    for rows in (50, 225, 2000):
        assert smallest_difference.paired(rows) < smallest_difference.unpaired(rows)
    assert smallest_difference.paired(2000) < smallest_difference.paired(225)


def test_too_few_rows_show_nothing():
    assert math.isnan(smallest_difference.paired(10))
    assert "more than 20 points" in smallest_difference.describe(10)[1]
    assert "225 test rows" in smallest_difference.describe(225)[0]
