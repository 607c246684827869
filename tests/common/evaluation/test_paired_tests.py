"""Paired tests: known answers of scipy, Holm by hand, and how often equal models are told apart."""

import numpy as np
import pytest
from conftest import ROOT
from scipy import stats
from simulated import equal_models

from common.core import files
from common.evaluation import intervals, label_counts, outcomes, paired_tests, resampling

MACRO = "f1_macro"


def pair(rows=120, seeds=1, groups=None, number=0, **settings):
    """Gold labels, the predictions (2, S, N) of two equal models, and the units of both."""
    gold, predicted = equal_models(np.random.default_rng(number), rows, models=2, seeds=seeds, **settings)
    return gold, predicted, resampling.units(gold, predicted.reshape(2 * seeds, rows), 3, groups)


@pytest.mark.parametrize(("first", "second", "p"), [(24, 14, 0.143), (58, 27, 0.0010), (0, 0, 1.0), (6, 0, 0.03125)])
def test_mcnemar_is_the_exact_binomial_test(first, second, p):
    gold = np.zeros(200, dtype=int)
    one, other = np.zeros(200, dtype=int), np.zeros(200, dtype=int)
    one[:second], other[second : second + first] = 1, 1
    found = paired_tests.mcnemar(gold, one, other)
    assert (found.first, found.second) == (first, second)
    assert found.p == pytest.approx(p, abs=0.0005)
    if first + second:
        assert found.p == pytest.approx(stats.binomtest(first, first + second).pvalue)


@pytest.mark.parametrize(
    ("one", "other", "first", "second", "p"),
    [("lora", "last-layers", 24, 14, 0.143), ("lora", "tfidf", 58, 27, 0.0010)],
)
def test_known_answers_of_the_demo(one, other, first, second, p):
    """The outcomes of the demo's three models, made by `make demo` on a CPU."""
    demo = files.read_json(ROOT / "tests" / "golden" / "demo-outcomes.json")
    left, right = outcomes.read(demo[one]), outcomes.read(demo[other])
    assert left.rows_sha256 == right.rows_sha256 and len(left.gold) == 225
    found = paired_tests.mcnemar(left.gold, left.predicted, right.predicted)
    assert (found.first, found.second) == (first, second)
    assert found.p == pytest.approx(p, abs=0.0005)


def test_permuted_accuracy_is_mcnemar():
    gold, (one, other), units = pair()
    exact = paired_tests.mcnemar(gold, one[0], other[0])
    found = paired_tests.permutation(units, 1, "accuracy", (), (0.0, 0.0), seed=1)
    assert found.p == pytest.approx(exact.p, abs=0.02)
    assert found.value == pytest.approx((exact.first - exact.second) / 120)
    assert found.low < found.value < found.high


def test_permuted_macro_f1_is_scipys():
    gold, (one, other), units = pair(rows=60)

    def difference(left, right, axis):
        scores = []
        for side in (left, right):
            kinds = [np.stack([(side == k) & (gold == k), gold == np.full_like(side, k), side == k]) for k in range(3)]
            counts = np.moveaxis(np.array([kind.sum(axis=-1) for kind in kinds]), (0, 1), (-1, -2))
            scores.append(label_counts.score(counts, MACRO))
        return scores[0] - scores[1]

    theirs = stats.permutation_test(
        (one[0], other[0]),
        difference,
        permutation_type="samples",
        vectorized=True,
        n_resamples=4_999,
        rng=np.random.default_rng(0),
    )
    mine = paired_tests.permutation(units, 1, MACRO, (), (0.0, 0.0), seed=1)
    assert mine.value == pytest.approx(theirs.statistic)
    assert mine.p == pytest.approx(theirs.pvalue, abs=0.03)


def test_the_same_predictions_are_not_told_apart():
    gold, predicted, _ = pair()
    units = resampling.units(gold, predicted[[0, 0], 0], 3, None)
    found = paired_tests.permutation(units, 1, MACRO, (), (0.0, 0.0), seed=1)
    assert (found.value, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_a_result_of_three_seeds_against_one_of_one():
    gold, predicted, _ = pair(seeds=3)
    units = resampling.units(gold, np.vstack([predicted[0], predicted[1, :1]]), 3, None)
    found = paired_tests.permutation(units, 3, "accuracy", (), (0.0, 0.0), seed=1)
    right = predicted == gold
    assert found.value == pytest.approx(right[0].mean() - right[1, 0].mean())
    wider = paired_tests.permutation(units, 3, "accuracy", (), (0.001, 0.0), seed=1)
    assert wider.p > found.p or wider.p == 1.0
    assert wider.high - wider.low > found.high - found.low


def test_rows_of_a_group_change_sides_together():
    gold, predicted, _ = pair(rows=80)
    five = [np.repeat(array, 5, axis=-1) for array in (gold, predicted[:, 0])]
    alone = resampling.units(gold, predicted[:, 0], 3, None)
    copies = resampling.units(*five, 3, np.arange(400) // 5)
    apart = resampling.units(*five, 3, None)
    one, other, wrong = (
        paired_tests.permutation(units, 1, "accuracy", (), (0.0, 0.0), seed=1).p for units in (alone, copies, apart)
    )
    assert other == pytest.approx(one, abs=0.02) and wrong < one


def test_holm_by_hand():
    assert paired_tests.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert paired_tests.holm([0.5, 0.9]) == [1.0, 1.0]
    # Of 4 results 3 are compared with the best, and 6 pairs are corrected for.
    assert paired_tests.holm([0.01, 0.04, 0.03], 6) == pytest.approx([0.06, 0.16, 0.15])
    assert paired_tests.holm([]) == []


# --- equal models ----------------------------------------------------------------------------------------------------


def false_marks(name, rows, models, times, seeds=1, seed_sd=0.0):
    """The share of simulated tables of equal models in which a model is told apart from the best one."""
    rng, false = np.random.default_rng(rows + models), 0
    for number in range(times):
        gold, predicted = equal_models(rng, rows, models, seeds, seed_sd=seed_sd)
        if seeds == 1 and name == "accuracy":
            best = int((predicted[:, 0] == gold).mean(axis=1).argmax())
            others = set(range(models)) - {best}
            p_values = [paired_tests.mcnemar(gold, predicted[one, 0], predicted[best, 0]).p for one in others]
            false += min(paired_tests.holm(p_values, models * (models - 1) // 2)) <= 0.05
            continue
        each = [resampling.units(gold, one, 3, None) for one in predicted]
        best = int(np.argmax([label_counts.score(units.total(), name).mean() for units in each]))
        p_values = []
        for other in set(range(models)) - {best}:
            units = resampling.units(gold, np.vstack([predicted[other], predicted[best]]), 3, None)
            variances = [0.0, 0.0]
            if seeds > 1:
                both = (each[other], each[best])
                variances = [intervals.intervals(one, [name], (), number)[name].seed_variance for one in both]
            p_values.append(paired_tests.permutation(units, seeds, name, (), variances, number).p)
        false += min(paired_tests.holm(p_values, models * (models - 1) // 2)) <= 0.05
    return false / times


@pytest.mark.parametrize(("rows", "models"), [(50, 2), (225, 6), (2000, 4)])
def test_equal_models_are_rarely_told_apart(rows, models):
    assert false_marks("accuracy", rows, models, 500) <= 0.06


@pytest.fixture
def fewer_draws(monkeypatch):
    monkeypatch.setattr(intervals, "DRAWS", 499)
    monkeypatch.setattr(paired_tests, "DRAWS", 9)
    monkeypatch.setattr(paired_tests, "PERMUTATIONS", 999)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "models", "times"), [(50, 2, 600), (225, 4, 200)])
def test_equal_models_are_rarely_told_apart_by_macro_f1(fewer_draws, rows, models, times):
    assert false_marks(MACRO, rows, models, times) <= 0.06


@pytest.mark.slow
def test_seeds_that_differ_are_no_difference_of_models(fewer_draws):
    """On 2,000 rows the seeds differ by more than the rows explain; a test of the rows alone would err often."""
    assert false_marks("accuracy", 2000, 2, 150, seeds=3, seed_sd=0.1) <= 0.06


def test_a_real_difference_is_seen():
    rng = np.random.default_rng(0)
    gold, (worse, _) = equal_models(rng, 400, models=2, accuracy=0.7)
    better = np.where(rng.random(400) < 0.5, gold, worse[0])
    units = resampling.units(gold, np.stack([better, worse[0]]), 3, None)
    found = paired_tests.permutation(units, 1, MACRO, (), (0.0, 0.0), seed=1)
    assert found.p == 1 / (1 + paired_tests.PERMUTATIONS) and found.low > 0.05


def test_many_tests_need_many_permutations():
    """The smallest p is below Holm's threshold for 1,000 tests."""
    gold = np.arange(120) % 3
    worse = np.where(np.arange(120) < 40, (gold + 1) % 3, gold)
    units = resampling.units(gold, np.stack([gold, worse]), 3, None)
    one, many = (paired_tests.permutation(units, 1, MACRO, (), (0.0, 0.0), 1, family).p for family in (1, 1000))
    assert many < 0.05 / 1000 < one
