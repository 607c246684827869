"""The columns that a prediction adds to a table: the predicted label, and the probability of each label.

The predictions of a run's own splits, `predictions-<split>.jsonl`, are written by `evaluation/write_results.py`.
"""

from collections.abc import Sequence

import numpy as np

from common.config.label_values import Label
from common.core.errors import DataError
from common.predict.decision import PLAIN, Decision

PREDICTED = "predicted"
ABSTAINED = "abstained"  # added where rows may be left to a person


def added_columns(labels: Sequence[Label], decision: Decision = PLAIN) -> list[str]:
    """Return the names of the added columns: the label, its probabilities, and whether rows are left to a person."""
    return [PREDICTED, *_probabilities(labels), *([ABSTAINED] if decision.abstention else [])]


def _probabilities(labels: Sequence[Label]) -> list[str]:
    return [f"probability_{label}" for label in labels]


def check_free_columns(
    columns: Sequence[object], labels: Sequence[Label], origin: object, decision: Decision = PLAIN
) -> None:
    """Raise a `DataError` when a table has a column with the name of an added one."""
    clash = [name for name in added_columns(labels, decision) if name in columns]
    if clash:
        raise DataError(f"{origin}: there is a column '{clash[0]}' already, which a prediction adds; rename it first.")


def prediction_columns(
    scores: np.ndarray, labels: Sequence[Label], decision: Decision = PLAIN
) -> dict[str, list[Label] | np.ndarray]:
    """Return the added columns by name: N labels, N probabilities of each label, and perhaps N truth values.

    Args:
        scores: natural-log probabilities (N, C).
        labels: in class order.
        decision: what is made of the scores; the most probable label is predicted unless it says otherwise.
    """
    scores = decision.calibrated(scores)
    probabilities = np.exp(scores.astype(np.float64)).reshape(len(scores), len(labels)).round(6)
    found: dict[str, list[Label] | np.ndarray] = {PREDICTED: [labels[place] for place in decision.predicted(scores)]}
    found |= {name: probabilities[:, index] for index, name in enumerate(_probabilities(labels))}
    return found | ({ABSTAINED: decision.abstains(scores)} if decision.abstention else {})
