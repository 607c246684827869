import numpy as np
import pytest

from common.data.rows import Row
from common.evaluation.classical import TfidfRegression, majority

GOOD, BAD = "good useful right", "bad harmful wrong"


def rows(count, offset=0, texts=1):
    return [
        Row(str(n), ("claim",) * (texts - 1) + (f"{(BAD, GOOD)[n % 2].split()[n % 3]} idea {n + offset}",), n % 2)
        for n in range(count)
    ]


def test_majority_scores_are_the_frequencies_of_train():
    train = [Row(str(number), ("x",), label) for number, label in enumerate([1, 1, 1, 0])]
    scores = majority(train, rows(3), classes=3)
    assert scores.shape == (3, 3)
    assert scores.dtype == np.float32
    assert np.exp(scores[2]) == pytest.approx([0.25, 0.75, 0.0], abs=1e-8)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("texts", [1, 2])
def test_tfidf_learns_words(texts):
    learner = TfidfRegression(rows(48, texts=texts), rows(12, 100, texts), classes=2)
    test = rows(12, 200, texts)
    scores = learner.score(test)
    assert scores.argmax(axis=1).tolist() == [row.label for row in test]
    assert np.exp(scores).sum(axis=1) == pytest.approx(np.ones(12), abs=1e-5)
    assert scores.dtype == np.float32


def test_tfidf_is_deterministic():
    first, second = (TfidfRegression(rows(24), rows(6, 100), 2).score(rows(6, 200)) for _ in range(2))
    assert (first == second).all()


def test_each_text_has_features_of_its_own():
    """The same words in claim and sentence mean different things."""
    train = [Row(str(n), (("yes", "no") if n % 2 else ("no", "yes")), n % 2) for n in range(20)]
    learner = TfidfRegression(train, [], classes=2)
    assert learner.score(train[:2]).argmax(axis=1).tolist() == [0, 1]


def test_without_validation_the_strength_is_one():
    assert TfidfRegression(rows(12), [], classes=2).regression.strength == 1.0


def test_a_text_without_words_is_scored():
    scores = TfidfRegression(rows(12), [], classes=2).score([Row("1", ("!?",), None)])
    assert np.isfinite(scores).all()


def test_parameters_are_coefficients_and_intercepts():
    learner = TfidfRegression(rows(12), [], classes=2)
    assert learner.regression.parameters == learner.regression.model.coef_.size + 1
    assert learner.regression.parameters == len(learner.features.get_feature_names_out()) + 1


def test_a_label_absent_from_train_gets_the_floor():
    scores = TfidfRegression(rows(12), [], classes=3).score(rows(2))
    assert (scores[:, 2] < np.log(1e-8)).all()
