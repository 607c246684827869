"""Baselines without a language model: the majority class, and TF-IDF with logistic regression on any features."""

import time
from collections.abc import Sequence

import numpy as np
from scipy.sparse import spmatrix
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import FeatureUnion, Pipeline

from common.data.rows import Row

_STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)  # inverse regularisation tried on validation
_FLOOR = 1e-9  # probability of a class that does not occur in train


def majority(train: Sequence[Row], rows: Sequence[Row], classes: int) -> np.ndarray:
    """Score every row by the label frequencies of train.

    Returns:
        Natural-log probabilities (N, C) float32, the same in every row.
    """
    counts = np.bincount([row.label for row in train if row.label is not None], minlength=classes)
    shares = np.log(np.maximum(counts / counts.sum(), _FLOOR))
    return np.tile(shares, (len(rows), 1)).astype(np.float32)


class TfidfRegression:
    """Logistic regression on TF-IDF of words (1-2) and of characters (2-5, within words), for each text column.

    The regularisation with the best macro-F1 on validation is chosen.

    Args:
        train: rows to learn from.
        validation: rows to choose the regularisation by; without them C is 1.
        classes: number of labels C.
    """

    def __init__(self, train: Sequence[Row], validation: Sequence[Row], classes: int) -> None:
        start = time.perf_counter()
        # The features do not depend on the regularisation, so they are computed once.
        self.features = _features(len(train[0].texts))
        matrix = self.features.fit_transform(_columns(train))
        checked = self.features.transform(_columns(validation)) if validation else None
        self.regression = Regression(matrix, train, checked, validation, classes)
        self.seconds = time.perf_counter() - start

    def score(self, rows: Sequence[Row]) -> np.ndarray:
        """Return natural-log probabilities (N, C) float32."""
        return self.regression.score(self.features.transform(_columns(rows)))


class Regression:
    """Logistic regression on features; the regularisation with the best macro-F1 on validation is chosen.

    Args:
        features: of the train rows (N, F).
        train: the N rows.
        checked: features of the validation rows (M, F), None where there are none; then C is 1.
        validation: the M rows.
        classes: number of labels C.

    Attributes:
        strength: the chosen inverse regularisation.
        validation_score: its macro-F1 on validation, 0 without validation rows.
        parameters: number of coefficients and intercepts.
    """

    def __init__(
        self,
        features: spmatrix | np.ndarray,
        train: Sequence[Row],
        checked: spmatrix | np.ndarray | None,
        validation: Sequence[Row],
        classes: int,
    ) -> None:
        self.classes = classes
        gold = [row.label for row in train]
        candidates = {}
        for strength in (1.0,) if checked is None else _STRENGTHS:
            model = LogisticRegression(C=strength, max_iter=2000)
            model.fit(features, gold)
            score = 0.0
            if checked is not None:
                score = f1_score([row.label for row in validation], model.predict(checked), average="macro")
            candidates[strength] = (score, model)
        self.strength = max(candidates, key=lambda strength: candidates[strength][0])
        self.validation_score, self.model = candidates[self.strength]
        self.parameters = int(self.model.coef_.size + self.model.intercept_.size)

    def score(self, features: spmatrix | np.ndarray) -> np.ndarray:
        """Return natural-log probabilities (N, C) float32 of rows by their features (N, F)."""
        found = self.model.predict_log_proba(features)
        result = np.full((found.shape[0], self.classes), np.log(_FLOOR), dtype=np.float32)
        result[:, self.model.classes_] = found
        return result


def _columns(rows: Sequence[Row]) -> np.ndarray:
    return np.array([row.texts for row in rows], dtype=object)


def _features(texts: int) -> ColumnTransformer:
    def vectors() -> Pipeline:
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        # A text of punctuation only has no words, but it has characters.
        characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
        return Pipeline([("union", FeatureUnion([("words", words), ("characters", characters)]))])

    return ColumnTransformer([(f"text{index}", vectors(), index) for index in range(texts)])
