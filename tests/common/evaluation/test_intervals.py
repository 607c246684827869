"""Intervals: scipy's on the same rows, exact ends, groups, seeds; and their coverage by simulation."""

import numpy as np
import pytest
from scipy import stats
from simulated import equal_models
from sklearn.metrics import f1_score

from common.evaluation import intervals, label_counts, resampling

ACCURACY, MACRO = "accuracy", "f1_macro"


def some_units(rows=200, seeds=1, **settings):
    gold, predicted = equal_models(np.random.default_rng(4), rows, seeds=seeds, **settings)
    return gold, predicted[0], resampling.units(gold, predicted[0], 3, None)


def found(units, *names, seed=1):
    return intervals.intervals(units, names or (ACCURACY, MACRO), (), seed)


def test_the_interval_is_scipys():
    gold, predicted, units = some_units()
    mine = found(units)
    right = (gold == predicted[0]).astype(float)
    theirs = stats.bootstrap((right,), np.mean, rng=np.random.default_rng(0), batch=500).confidence_interval
    assert mine[ACCURACY].method == "BCa"
    assert (mine[ACCURACY].low, mine[ACCURACY].high) == pytest.approx(theirs, abs=0.006)
    assert mine[ACCURACY].value == right.mean()
    assert mine[MACRO].value == pytest.approx(f1_score(gold, predicted[0], average="macro"))


def test_the_macro_f1_interval_is_scipys():
    gold, predicted, units = some_units(rows=60)

    def macro(one, other, axis):
        counts = [np.stack([(one == k) & (other == k), one == k, other == k]).sum(axis=-1) for k in range(3)]
        return label_counts.score(np.moveaxis(np.array(counts), (0, 1), (-1, -2)), MACRO)

    theirs = stats.bootstrap(
        (gold, predicted[0]), macro, paired=True, vectorized=True, n_resamples=4_999, rng=np.random.default_rng(0)
    ).confidence_interval
    mine = found(units)[MACRO]
    assert (mine.low, mine.high) == pytest.approx(theirs, abs=0.015)


def test_the_same_seed_gives_the_same_interval():
    units = some_units()[2]
    assert found(units) == found(units)
    assert found(units) != found(units, seed=2)


def test_a_confusion_matrix_gives_the_interval_of_its_rows():
    gold, predicted, units = some_units()
    matrix = np.zeros((3, 4), dtype=int)
    np.add.at(matrix, (gold, predicted[0]), 1)
    assert found(resampling.units_of_confusion(matrix)) == found(units)


@pytest.mark.parametrize(("right", "low", "high"), [(True, 0.9289, 1.0), (False, 0.0, 0.0711)])
def test_without_an_error_the_interval_is_exact(right, low, high):
    gold = np.arange(50) % 2
    interval = found(resampling.units(gold, (gold if right else 1 - gold)[None], 2, None), ACCURACY)[ACCURACY]
    expected = stats.binomtest(50 if right else 0, 50).proportion_ci()
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-4)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert interval.method == "exact"


@pytest.mark.filterwarnings("error")
def test_the_only_row_of_a_group():
    """Two seeds judge it differently; nobody is warned that no score is left without it."""
    units = resampling.units(np.array([0]), np.array([[0], [1]]), 2, None)
    interval = found(units, ACCURACY)[ACCURACY]
    assert (interval.value, interval.low, interval.high, interval.method) == (0.5, 0.0, 1.0, "percentile")


def test_a_label_without_rows_has_no_error_rate():
    gold = np.zeros(20, dtype=int)
    names = [f"{label_counts.ERROR_RATE}{place}" for place in (0, 1)]
    assert set(found(resampling.units(gold, np.ones((1, 20), dtype=int), 2, None), *names)) == {names[0]}


def test_a_constant_prediction_has_a_correlation_of_zero():
    gold = np.arange(30) % 3
    name = "matthews_corrcoef"
    interval = found(resampling.units(gold, np.zeros((1, 30), dtype=int), 3, None), name)[name]
    assert (interval.value, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_equal_seeds_add_nothing_and_unequal_ones_do():
    gold, predicted, units = some_units(rows=2000)
    thrice = resampling.units(gold, np.repeat(predicted, 3, axis=0), 3, None)
    one, three = found(units)[ACCURACY], found(thrice)[ACCURACY]
    assert three.seed_variance == 0.0
    assert (three.low, three.high) == pytest.approx((one.low, one.high), abs=0.002)
    apart = found(some_units(rows=2000, seeds=3, seed_sd=0.3)[2])[ACCURACY]
    assert apart.seed_variance > 0 and apart.high - apart.low > 3 * (one.high - one.low)


def test_groups_are_drawn_where_there_are_enough():
    gold, predicted, _ = some_units(rows=400)
    few, many = (np.arange(400) % count for count in (resampling.MIN_GROUPS - 1, resampling.MIN_GROUPS))
    assert not resampling.units(gold, predicted, 3, few).grouped
    grouped = resampling.units(gold, predicted, 3, many)
    assert grouped.grouped and len(grouped.numbers) == resampling.MIN_GROUPS
    assert np.array_equal(grouped.total(), some_units(rows=400)[2].total())
    # Where all rows of a group are alike, a group counts as one row.
    copies = resampling.units(np.repeat(gold[:80], 5), np.repeat(predicted[:, :80], 5, axis=1), 3, np.arange(400) // 5)
    alone = found(resampling.units(gold[:80], predicted[:, :80], 3, None))[ACCURACY]
    interval = found(copies)[ACCURACY]
    assert (interval.low, interval.high) == pytest.approx((alone.low, alone.high), abs=0.01)


def test_the_unpaired_difference_is_newcombes():
    """56 of 70 minus 48 of 80 with Wilson's intervals: [0.0524, 0.3339], Newcombe (1998), table II, method 10."""

    def wilson(right, rows):
        ends = stats.binomtest(right, rows).proportion_ci(method="wilson")
        return intervals.Interval(right / rows, ends.low, ends.high, 0.0, "Wilson")

    ends = intervals.unpaired_difference(wilson(56, 70), wilson(48, 80))
    assert ends == (pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5))
    low, high = intervals.unpaired_difference(wilson(48, 80), wilson(56, 70))
    assert (-high, -low) == pytest.approx(ends)


def test_units_that_are_alike_give_the_same_counts():
    units = some_units(rows=400)[2]
    apart = resampling.Units(np.ones(400, dtype=int), units.counts.repeat(units.numbers, axis=0))
    alike = apart.alike()
    assert len(alike.numbers) == len(units.numbers) and np.array_equal(alike.total(), units.total())


# --- coverage --------------------------------------------------------------------------------------------------------


def coverage(rows, names, times, seeds=1, seed_sd=0.0, accuracy=0.8, groups=None):
    """The share of simulated intervals that contain the expected score, by name."""
    rng = np.random.default_rng(rows + seeds)
    truth = dict.fromkeys(names, 0.0)
    worlds = 200 if seed_sd else 1
    for _ in range(worlds):
        gold, predicted = equal_models(rng, 400_000 // worlds, seed_sd=seed_sd, accuracy=accuracy)
        total = resampling.units(gold, predicted[0], 3, None).total()
        for name in names:
            truth[name] += float(label_counts.score(total, name)[0]) / worlds
    hits = dict.fromkeys(names, 0)
    for number in range(times):
        gold, predicted = equal_models(rng, rows, seeds=seeds, seed_sd=seed_sd, accuracy=accuracy)
        units = resampling.units(gold, predicted[0], 3, groups)
        for name, interval in intervals.intervals(units, names, (), number).items():
            hits[name] += interval.low <= truth[name] <= interval.high
    return {name: count / times for name, count in hits.items()}


@pytest.fixture
def fewer_draws(monkeypatch):
    monkeypatch.setattr(intervals, "DRAWS", 999)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [50, 225, 2000])
@pytest.mark.parametrize("accuracy", [0.6, 0.8])
def test_coverage(fewer_draws, rows, accuracy):
    for name, share in coverage(rows, [ACCURACY], 1500, accuracy=accuracy).items():
        assert 0.93 <= share <= 0.97, name


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "seed_sd"), [(3, 0.0), (3, 0.1)])
def test_coverage_over_seeds(fewer_draws, seeds, seed_sd):
    """With three seeds the interval is rather too wide than too narrow."""
    share = coverage(225, [ACCURACY], 500, seeds=seeds, seed_sd=seed_sd)[ACCURACY]
    assert 0.93 <= share <= 0.98


@pytest.mark.slow
def test_coverage_over_groups(fewer_draws):
    """Groups of 3 to 19 rows, which differ in how difficult they are."""
    rng, hits = np.random.default_rng(3), 0
    truth = float((1 / (1 + np.exp(-(1 + rng.normal(0, 0.8, 1_000_000))))).mean())
    for number in range(600):
        sizes = rng.integers(3, 20, resampling.MIN_GROUPS)
        groups = np.repeat(np.arange(resampling.MIN_GROUPS), sizes)
        right = rng.random(len(groups)) < 1 / (1 + np.exp(-(1 + rng.normal(0, 0.8, resampling.MIN_GROUPS)[groups])))
        gold = rng.integers(0, 2, len(groups))
        units = resampling.units(gold, np.where(right, gold, 1 - gold)[None], 2, groups)
        interval = intervals.intervals(units, [ACCURACY], (), number)[ACCURACY]
        hits += interval.low <= truth <= interval.high
    assert 0.93 <= hits / 600 <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "accuracies"), [((50, 30), (0.9, 0.7)), ((225, 100), (0.8, 0.8))])
def test_coverage_of_an_unpaired_difference(fewer_draws, rows, accuracies):
    """Two sides of other rows, one of them near 1."""
    rng, hits, times = np.random.default_rng(7), 0, 600
    for number in range(times):
        sides = []
        for count, accuracy in zip(rows, accuracies, strict=True):
            gold = rng.integers(0, 2, count)
            right = rng.random(count) < accuracy
            units = resampling.units(gold, np.where(right, gold, 1 - gold)[None], 2, None)
            sides.append(intervals.intervals(units, [ACCURACY], (), number)[ACCURACY])
        low, high = intervals.unpaired_difference(*sides)
        hits += low <= accuracies[0] - accuracies[1] <= high
    assert 0.93 <= hits / times <= 0.975


def test_coverage_of_few_simulations(fewer_draws):
    share = coverage(225, [MACRO], 200)[MACRO]
    assert 0.91 <= share <= 0.98
