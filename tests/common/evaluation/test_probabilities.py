"""Measures of probabilities are scikit-learn's on the same arrays; the calibration error has an honest interval."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from common.evaluation import metrics, probabilities

LABELS = ["con", "neu", "pro"]


def draw(rows=300, sharpness=1.0, classes=3, seed=0):
    """Probabilities (N, C) and gold labels drawn from them; a sharpness other than 1 spoils the calibration."""
    rng = np.random.default_rng(seed)
    true = rng.dirichlet(np.ones(classes), rows)
    gold = (true.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    stated = true**sharpness
    return stated / stated.sum(axis=1, keepdims=True), gold


@pytest.mark.parametrize("classes", [2, 3])
def test_measures_are_scikit_learns(classes):
    chances, gold = draw(classes=classes, sharpness=2.0)
    found = probabilities.measures(chances, gold)
    labels = list(range(classes))
    assert found["brier_score"] == pytest.approx(brier_score_loss(gold, chances, labels=labels, scale_by_half=False))
    confidence, right = chances.max(axis=1), chances.argmax(axis=1) == gold
    shares, means = calibration_curve(right, confidence, n_bins=10, strategy="quantile")
    assert [bin["accuracy"] for bin in found["reliability"]] == pytest.approx(shares)
    assert [bin["confidence"] for bin in found["reliability"]] == pytest.approx(means)
    sizes = np.array([bin["n"] for bin in found["reliability"]])
    assert sizes.sum() == 300 and np.ptp(sizes) <= 1
    assert found["expected_calibration_error"] == pytest.approx(np.average(np.abs(shares - means), weights=sizes))
    for place, ranking in enumerate(probabilities.by_label(chances, gold)):
        assert ranking["roc_auc"] == pytest.approx(roc_auc_score(gold == place, chances[:, place]))
        assert ranking["average_precision"] == pytest.approx(average_precision_score(gold == place, chances[:, place]))


def test_the_metrics_have_them():
    chances, gold = draw(rows=40)
    records = [
        {
            "gold": LABELS[place],
            "predicted": LABELS[row.argmax()],
            "group": None,
            "scores": dict(zip(LABELS, np.log(row), strict=True)),
        }
        for row, place in zip(chances, gold, strict=True)
    ]
    found = metrics.compute(records, LABELS)
    assert found["loss"] == pytest.approx(log_loss(gold, chances, labels=[0, 1, 2]))
    assert {key: found[key] for key in ("brier_score", "expected_calibration_error")} == pytest.approx(
        {key: probabilities.measures(chances, gold)[key] for key in ("brier_score", "expected_calibration_error")}
    )
    assert found["per_label"]["pro"]["roc_auc"] == pytest.approx(roc_auc_score(gold == 2, chances[:, 2]))


def test_a_label_without_rows_has_no_ranking():
    chances, _ = draw(rows=10)
    rankings = probabilities.by_label(chances, np.zeros(10, dtype=int))
    assert rankings == [{"roc_auc": None, "average_precision": None}] * 3


def test_equal_confidences_share_a_bin():
    found = probabilities.measures(np.tile([0.7, 0.2, 0.1], (60, 1)), np.arange(60) % 3)
    assert [bin["n"] for bin in found["reliability"]] == [60]
    assert found["expected_calibration_error"] == pytest.approx(0.7 - 1 / 3)
    low, high = found["expected_calibration_error_interval"]
    assert low < 0.7 - 1 / 3 < high


def test_one_row_is_enough():
    assert probabilities.measures(np.array([[0.5, 0.5]]), np.array([0]))["expected_calibration_error"] == 0.5


def test_the_interval_of_a_miscalibrated_model_contains_its_error():
    chances, gold = draw(rows=100_000, sharpness=3.0, seed=9)
    low, high = probabilities.measures(chances[:2000], gold[:2000])["expected_calibration_error_interval"]
    confidence, right = chances.max(axis=1), chances.argmax(axis=1) == gold
    error = probabilities.calibration_error(confidence, right, probabilities.equal_mass_bins(confidence))
    assert 0 < low < error < high < low + 0.08


def test_a_calibrated_model_has_an_interval_from_zero():
    """Its error on few rows comes from chance, and this much is said beside it."""
    found = [probabilities.measures(*draw(rows=225, seed=seed)) for seed in range(40)]
    assert sum(one["expected_calibration_error_interval"][0] == 0.0 for one in found) >= 37
    errors = [one["expected_calibration_error"] for one in found]
    assert np.mean(errors) == pytest.approx(
        np.mean([one["expected_calibration_error_by_chance"] for one in found]), rel=0.15
    )
