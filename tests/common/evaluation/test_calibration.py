"""Temperature as scikit-learn fits it, thresholds that raise a score, rules of abstention that keep their promise."""

import numpy as np
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score, f1_score, log_loss

from common.core.errors import RunError
from common.core.files import read_json
from common.evaluation import calibration


def draw(rows=500, sharpness=3.0, classes=3, seed=0):
    """Natural-log probabilities (N, C) of an overconfident model, and gold labels (N,)."""
    rng = np.random.default_rng(seed)
    true = rng.dirichlet(np.full(classes, 0.4), rows)
    gold = (true.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    stated = sharpness * np.log(true)
    return stated - np.log(np.exp(stated).sum(axis=1, keepdims=True)), gold


class Scores(ClassifierMixin, BaseEstimator):
    """Stands for a fitted model whose input are its scores."""

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, x):
        return x

    def predict(self, x):
        return self.classes_[x.argmax(axis=1)]


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_the_temperature_is_scikit_learns(sharpness):
    scores, gold = draw(sharpness=sharpness)
    found = calibration.fit_temperature(scores, gold)
    assert found == pytest.approx(sharpness, rel=0.15)
    theirs = CalibratedClassifierCV(FrozenEstimator(Scores().fit(scores, gold)), method="temperature").fit(scores, gold)
    assert np.exp(calibration.with_temperature(scores, found)) == pytest.approx(theirs.predict_proba(scores), abs=2e-3)


def test_the_temperature_changes_no_label_and_lowers_the_loss():
    scores, gold = draw()
    after = calibration.with_temperature(scores, calibration.fit_temperature(scores, gold))
    assert np.array_equal(after.argmax(axis=1), scores.argmax(axis=1))
    assert log_loss(gold, np.exp(after)) < log_loss(gold, np.exp(scores)) - 0.1
    assert np.exp(after).sum(axis=1) == pytest.approx(np.ones(500))


def test_a_run_keeps_its_temperature(tmp_path):
    scores, gold = draw(rows=50)
    calibration.save(tmp_path, "validation", scores, gold)
    assert read_json(tmp_path / calibration.FILE)["n"] == 50
    assert calibration.read_temperature(tmp_path, "x") == calibration.fit_temperature(scores, gold)
    with pytest.raises(RunError, match=r"has no calibration\.json.*make evaluate"):
        calibration.read_temperature(tmp_path / "other", "make evaluate SPLIT=validation")


def test_a_temperature_that_the_rows_do_not_decide_is_refused(tmp_path):
    """Three rows that are all right would make every probability 0 or 1; rows that are all wrong make all alike."""
    scores = np.log([[0.9, 0.1], [0.3, 0.7], [0.8, 0.2]])
    calibration.save(tmp_path, "validation", scores, np.array([1, 0, 1]))
    assert calibration.read_temperature(tmp_path, "x") > 49
    calibration.save(tmp_path, "validation", scores, np.array([0, 1, 0]))
    with pytest.raises(RunError, match="right on all 3 validation rows"):
        calibration.read_temperature(tmp_path, "x")


@pytest.mark.parametrize("temperature", ["0", "-1", "NaN", '"2"', "null"])
def test_a_temperature_that_is_none_is_refused(tmp_path, temperature):
    (tmp_path / calibration.FILE).write_text(f'{{"schema": 1, "temperature": {temperature}, "n": 3}}')
    with pytest.raises(RunError, match=r"calibration\.json: .*make evaluate"):
        calibration.read_temperature(tmp_path, "make evaluate")


@pytest.mark.parametrize("text", ["{", "[]", '{"n": 3}'])
def test_a_damaged_temperature_is_one_message(tmp_path, text):
    (tmp_path / calibration.FILE).write_text(text)
    with pytest.raises(RunError, match=r"is damaged.*make evaluate"):
        calibration.read_temperature(tmp_path, "make evaluate")


@pytest.mark.parametrize("gold", [np.array([0]), np.array([1, 1, 1])])
def test_few_rows_give_a_finite_temperature(gold):
    scores = np.log(np.tile([0.6, 0.4], (len(gold), 1)))
    assert 0.01 < calibration.fit_temperature(scores, gold) < 100


@pytest.mark.parametrize("allowed", [0.05, 0.2, 0.9])
def test_abstention_keeps_as_many_rows_as_allowed(allowed):
    scores, gold = draw(sharpness=1.0)
    confidence, right = np.exp(scores).max(axis=1), scores.argmax(axis=1) == gold
    rule = calibration.fit_abstention(confidence, right, allowed)
    kept = confidence >= rule.least
    assert kept.mean() == rule.coverage and (~right[kept]).mean() == rule.error <= allowed
    more = np.sort(np.unique(confidence[~kept]))[::-1]
    assert all((~right[confidence >= one]).mean() > allowed for one in more)
    bound = stats.binomtest(int((~right[kept]).sum()), int(kept.sum())).proportion_ci(0.9).high
    assert rule.highest_error == pytest.approx(bound)


def test_a_new_row_like_the_least_certain_kept_one_is_kept():
    """It is scored with more decimals than the predictions of validation have."""
    rule = calibration.fit_abstention(np.array([0.9, 0.8, 0.7]), np.array([True, True, False]), 0.1)
    assert 0.7 < rule.least < 0.799999 and rule.coverage == pytest.approx(2 / 3)
    close = calibration.fit_abstention(np.array([0.8, 0.8 - 1e-9]), np.array([True, False]), 0.1)
    assert 0.8 - 1e-9 < close.least < 0.8


def test_equal_confidences_are_kept_or_left_together():
    confidence, right = np.array([0.9, 0.8, 0.8, 0.7]), np.array([True, True, False, True])
    assert calibration.fit_abstention(confidence, right, 0.1).coverage == 0.25
    assert calibration.fit_abstention(confidence, right, 0.3).coverage == 1.0


def test_no_rule_where_the_most_certain_rows_are_wrong():
    assert calibration.fit_abstention(np.array([0.9, 0.8]), np.array([False, False]), 0.05) is None


@pytest.mark.parametrize("classes", [2, 3])
def test_thresholds_raise_the_score(classes):
    scores, gold = draw(classes=classes, sharpness=1.0)
    scores = scores + np.linspace(0, 2, classes)  # a model that prefers the last labels
    scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
    thresholds = calibration.fit_thresholds(scores, gold, "f1_macro")
    before, after = (
        f1_score(gold, found.argmax(axis=1), average="macro") for found in (scores, scores - np.log(thresholds))
    )
    assert after > before + 0.1
    assert thresholds.sum() == pytest.approx(1) and np.all(np.diff(thresholds) > 0)


def test_two_labels_have_the_best_threshold_of_all():
    scores, gold = draw(rows=120, classes=2)
    thresholds = calibration.fit_thresholds(scores, gold, "accuracy")
    found = accuracy_score(gold, (scores - np.log(thresholds)).argmax(axis=1))
    chances = np.exp(scores[:, 1])
    best = max(accuracy_score(gold, chances > cut) for cut in [0.0, *np.sort(chances)])
    assert found == pytest.approx(best, abs=0.009)
