"""The columns that a prediction adds to a table: the predicted label, and the probability of each label.

The predictions of a run's own splits, `predictions-<split>.jsonl`, are written by `evaluation/write_results.py`.
"""

from collections.abc import Sequence

import numpy as np

from common.config.label_values import Label
from common.core.errors import DataError


def added_columns(labels: Sequence[Label]) -> list[str]:
    """Return the names of the columns that are added."""
    return ["predicted", *(f"probability_{label}" for label in labels)]


def check_free_columns(columns: Sequence[object], labels: Sequence[Label], origin: object) -> None:
    """Raise a `DataError` when a table has a column with the name of an added one."""
    clash = [name for name in added_columns(labels) if name in columns]
    if clash:
        raise DataError(f"{origin}: there is a column '{clash[0]}' already, which a prediction adds; rename it first.")


def prediction_columns(scores: np.ndarray, labels: Sequence[Label]) -> dict[str, list[Label] | np.ndarray]:
    """Return the added columns by name: N labels, and N probabilities of each label.

    Args:
        scores: natural-log probabilities (N, C).
        labels: in class order.
    """
    names = added_columns(labels)
    probabilities = np.exp(scores.astype(np.float64)).reshape(len(scores), len(labels)).round(6)
    predicted = [labels[index] for index in scores.argmax(axis=1)] if len(scores) else []
    return {names[0]: predicted} | {name: probabilities[:, index] for index, name in enumerate(names[1:])}
