"""Compute scores from counts per label: of one confusion matrix, or of the thousands that resampling makes.

Every score of the tables depends on three counts per label alone: the rows of that gold label that are predicted
right, the rows of that gold label, and the rows that are predicted as that label. A last axis of C labels behind an
axis of these three makes any number of confusion matrices one array `(..., 3, C)`. `metrics.compute` gives the same
numbers for one matrix by scikit-learn.
"""

from collections.abc import Sequence

import numpy as np

RIGHT, GOLD, PREDICTED = range(3)  # along the axis of size 3
ERROR_RATE = "error_rate_of:"  # and the place of a label: 1 - recall


def of_confusion(confusion: np.ndarray) -> np.ndarray:
    """Return the counts (..., 3, C) of confusion matrices (..., C, C + 1).

    Rows are gold labels; the last column holds generated texts that are no label.
    """
    right = np.diagonal(confusion[..., :-1], axis1=-2, axis2=-1)
    return np.stack([right, confusion.sum(axis=-1), confusion[..., :-1].sum(axis=-2)], axis=-2)


def score(counts: np.ndarray, name: str, mean_f1_of: Sequence[int] = ()) -> np.ndarray:
    """Return one score (...) of counts (..., 3, C); not finite where a label without rows has no error rate.

    Args:
        counts: may be fractions, such as means over seeds.
        name: accuracy, f1_macro, f1_micro, f1_weighted, f1_mean_labels, matthews_corrcoef, or `ERROR_RATE` + place.
        mean_f1_of: places of the labels that f1_mean_labels averages.

    Raises:
        KeyError: there is no such score.
    """
    right, gold, predicted = (counts[..., kind, :] for kind in (RIGHT, GOLD, PREDICTED))
    if name in ("accuracy", "f1_micro"):  # equal with one label per row
        return right.sum(axis=-1) / gold.sum(axis=-1)
    if name == "matthews_corrcoef":
        return _matthews(right, gold, predicted)
    if name.startswith(ERROR_RATE):
        place = int(name.removeprefix(ERROR_RATE))
        with np.errstate(invalid="ignore", divide="ignore"):
            return 1 - right[..., place] / gold[..., place]
    both = gold + predicted
    f1 = 2 * right / np.where(both > 0, both, 1)
    if name == "f1_macro":  # over the labels that occur
        return f1.sum(axis=-1) / (both > 0).sum(axis=-1)
    if name == "f1_weighted":
        return (f1 * gold).sum(axis=-1) / gold.sum(axis=-1)
    if name == "f1_mean_labels":
        return f1[..., list(mean_f1_of)].mean(axis=-1)
    raise KeyError(name)


def _matthews(right: np.ndarray, gold: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """R_K of Gorodkin (2004); 0 where all gold labels or all predictions are one label."""
    rows = gold.sum(axis=-1)
    none = rows - predicted.sum(axis=-1)  # predictions that are no label are a label of their own
    covariance = right.sum(axis=-1) * rows - (gold * predicted).sum(axis=-1)
    spread = (rows**2 - (gold**2).sum(axis=-1)) * (rows**2 - (predicted**2).sum(axis=-1) - none**2)
    return np.where(spread > 0, covariance / np.sqrt(np.where(spread > 0, spread, 1)), 0.0)
