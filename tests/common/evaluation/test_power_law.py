"""The power law of a learning curve: known answers; flat, noisy and short curves; coverage by simulation."""

import numpy as np
import pytest
from scipy import optimize

from common.evaluation import power_law, resampling

SIZES = np.array([100, 200, 400, 700, 1000])


def units_of(errors, rows=2000, seed=3, nested=True):
    """Units of models with these errors on rows of two labels; nested: a better model is right where a worse one is."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(2, size=rows)
    if nested:
        wrong = rng.permutation(rows)[None] < np.round(np.array(errors) * rows)[:, None]
    else:
        wrong = np.stack([rng.permutation(rows) < round(error * rows) for error in errors])
    return resampling.units(gold, np.where(wrong, 1 - gold, gold), 2, None)


def forecast(errors, sizes=SIZES, more=500, **settings):
    return power_law.forecast(units_of(errors, **settings), list(sizes), "accuracy", (), more, 5)


@pytest.mark.parametrize(("a", "b", "c"), [(0.1, 0.2, 0.5), (0.0, 0.3, 0.2), (0.25, 0.05, 1.3)])
def test_the_parameters_are_recovered(a, b, c):
    law = power_law.fit(SIZES, a + b * (SIZES / 1000) ** -c)
    assert (law.a, law.b) == pytest.approx((a, b), abs=0.01) and law.c == pytest.approx(c, rel=0.04)
    assert law.error(np.array([1000, 2000])) == pytest.approx([a + b, a + b * 2**-c], abs=1e-3)


def test_the_gain_of_a_known_curve_is_inside_its_interval():
    def error(rows):
        return 0.05 + 0.15 * (rows / 1000) ** -0.5

    found = forecast(error(SIZES))
    truth = error(1000) - error(1500)
    assert found.gain == pytest.approx(truth, abs=0.003)
    assert 0 < found.gain_low < truth < found.gain_high < 0.06
    assert found.rows[0] == 100 and found.rows[-1] == pytest.approx(2000)
    assert all(low <= score <= high for low, score, high in zip(found.low, found.score, found.high, strict=True))


def test_a_flat_curve_has_no_gain():
    found = forecast([0.2] * 5)
    assert found.gain == pytest.approx(0, abs=1e-4) and found.gain_low == pytest.approx(0, abs=1e-4)
    assert found.gain_high < 0.01


def test_noise_does_not_exclude_that_there_is_no_gain():
    found = forecast([0.30, 0.22, 0.31, 0.24, 0.27])
    assert found.gain_low < 0.0005 and found.gain_high > 0.01


def test_more_seeds_of_one_size_count_as_one_size():
    errors = 0.05 + 0.15 * (np.repeat(SIZES, 2) / 1000) ** -0.5 + np.tile([0.01, -0.01], 5)
    found = forecast(errors, np.repeat(SIZES, 2))
    assert found.law.reference == 1000 and 1 - found.law.error(np.array(1000)) == pytest.approx(0.8, abs=0.01)
    assert found.gain_high - found.gain_low > 0.005


def test_a_forecast_needs_one_size_more_than_the_law_has_parameters():
    with pytest.raises(ValueError, match="3 sizes; a power law needs 4"):
        forecast([0.3, 0.25, 0.2], SIZES[:3])


@pytest.mark.parametrize(
    "errors", [[0.4, 0.31, 0.27, 0.22, 0.21], [0.5, 0.49, 0.45, 0.3, 0.28], [0.2, 0.3, 0.2, 0.3, 0.2]]
)
def test_the_fit_is_that_of_scipy(errors):
    """curve_fit with the same weights and bounds, from the best of some starts."""
    shares, sigma = SIZES / 1000, np.arange(1, 6) ** -0.5
    bounds = ([0, 0, 0.02], [1, 1, 3])

    def lack(a, b, c):
        return (((a + b * shares**-c - errors) / sigma) ** 2).sum()

    theirs = []
    for start in ((0.1, 0.1, 0.5), (0.01, 0.3, 0.1), (0.2, 0.05, 2)):
        found, _ = optimize.curve_fit(lambda x, a, b, c: a + b * x**-c, shares, errors, start, sigma, bounds=bounds)
        theirs.append(lack(*found))
    law = power_law.fit(SIZES, np.array(errors))
    assert lack(law.a, law.b, law.c) == pytest.approx(min(theirs), rel=0.01, abs=1e-6)


def test_the_interval_covers_the_gain_of_true_curves(monkeypatch):
    """Each size is another sample of train rows, which moves its score by half a point."""
    monkeypatch.setattr(power_law, "DRAWS", 199)
    rng = np.random.default_rng(2)
    curve = 0.08 + 0.12 * (np.append(SIZES, 1500) / 1000) ** -0.6
    covered = 0
    for seed in range(40):
        errors = curve[:-1] + rng.normal(0, 0.005, 5)
        found = forecast(errors, seed=seed, rows=4000)
        covered += found.gain_low <= curve[-2] - curve[-1] <= found.gain_high
    assert covered >= 35
