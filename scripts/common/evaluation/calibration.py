"""What validation teaches about a model's probabilities: a temperature, thresholds of labels, and when to abstain.

Temperature scaling: C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, On calibration of modern neural networks (ICML 2017).
One number divides all log probabilities, so that no prediction changes.
"""

import dataclasses
import math
from pathlib import Path

import numpy as np
from scipy import optimize, special

from common.core.documents import is_of, require_object
from common.core.errors import RunError
from common.core.files import write_json
from common.evaluation import label_counts

FILE = "calibration.json"
_SCHEMA = 1
_WIDEST = math.log(50.0)  # of the temperature's logarithm, to either side
_ROUNDING = 1e-5  # predictions have six decimals: an equal new row may be a little less certain
_AT_BOUND = 1e-3  # of that logarithm
_CANDIDATES = 200  # thresholds tried for a label


def with_temperature(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Return natural-log probabilities (N, C) after temperature scaling, as float64."""
    return np.asarray(special.log_softmax(scores.astype(np.float64) / temperature, axis=1))


def fit_temperature(scores: np.ndarray, gold: np.ndarray) -> float:
    """Return the temperature with the lowest log loss on log probabilities (N, C) for gold places (N,)."""
    rows = np.arange(len(gold))

    def loss(logarithm: float) -> float:
        return float(-with_temperature(scores, math.exp(logarithm))[rows, gold].mean())

    found = optimize.minimize_scalar(loss, bounds=(-_WIDEST, _WIDEST), method="bounded", options={"xatol": 1e-6})
    return float(math.exp(found.x))


def save(folder: Path, split: str, scores: np.ndarray, gold: np.ndarray) -> None:
    """Fit the temperature on a split and write it to the run folder."""
    temperature = fit_temperature(scores, gold)
    write_json(folder / FILE, {"schema": _SCHEMA, "split": split, "n": len(gold), "temperature": temperature})


def read_temperature(folder: Path, command: str) -> float:
    """Return the temperature of a run.

    Args:
        folder: the run folder.
        command: what computes it where the run has none.

    Raises:
        RunError: the run has none, the file is damaged, or the rows do not decide it.
    """
    file = folder / FILE
    if not file.exists():
        raise RunError(f"{folder}: it has no {FILE}; its validation rows must be scored again: {command}")
    again = f"Score the validation rows again: {command}"
    document = require_object(file, ("temperature", "n"), again)
    temperature = document["temperature"]
    if not is_of(temperature, float) or not temperature > 0:
        raise RunError(f"{file}: the temperature is {temperature}; it is a number above 0. {again}")
    if math.log(temperature) < _AT_BOUND - _WIDEST:
        raise RunError(
            f"{file}: the temperature {temperature:.3g} would make every probability 0 or 1, because the model is "
            f"right on all {document['n']} validation rows. They do not say how certain it should be. Leave CALIBRATED "
            "out, or train with more validation rows."
        )
    return float(temperature)


@dataclasses.dataclass(frozen=True)
class Abstention:
    """Which rows are left to a person.

    Attributes:
        least: rows whose most probable label has a lower probability are left.
        coverage: share of the validation rows that are kept.
        error: error rate of these on validation.
        highest_error: its upper bound with 95 % confidence (Clopper and Pearson). The same rows chose `least`, so the
            error of new rows may be higher with a greater chance than 5 %.
    """

    least: float
    coverage: float
    error: float
    highest_error: float


def fit_abstention(confidence: np.ndarray, right: np.ndarray, allowed: float) -> Abstention | None:
    """Return the rule that keeps as many rows as possible with an error of at most `allowed`, None where there is none.

    Args:
        confidence: (N,) probability of the predicted label on validation.
        right: (N,) whether it is the gold label.
        allowed: error rate in [0, 1) of the rows that are kept.
    """
    order = np.argsort(-confidence, kind="stable")
    sorted_confidence, wrong = confidence[order], np.cumsum(~right[order])
    kept = np.arange(1, len(order) + 1)
    is_last = np.append(sorted_confidence[1:] < sorted_confidence[:-1], True)  # equal confidences stay together
    possible = np.flatnonzero(is_last & (wrong <= allowed * kept))
    if not len(possible):
        return None
    place = int(possible[-1])
    count, errors = int(kept[place]), int(wrong[place])
    highest = 1.0 if errors == count else float(special.betaincinv(errors + 1, count - errors, 0.95))
    last, following = float(sorted_confidence[place]), float(np.append(sorted_confidence, 0.0)[place + 1])
    least = max((last + following) / 2, last - _ROUNDING)
    return Abstention(least, count / len(order), errors / count, highest)


def fit_thresholds(scores: np.ndarray, gold: np.ndarray, name: str, mean_f1_of: tuple[int, ...] = ()) -> np.ndarray:
    """Return a threshold (C,) for each label: the label with the highest quotient of probability and threshold is it.

    The thresholds are changed one label at a time while a score on the rows rises; equal thresholds, which are those of
    the most probable label, are the start. With two labels it is a threshold of one probability.

    Args:
        scores: natural-log probabilities (N, C) of validation.
        gold: (N,) places.
        name: of the score, as in `label_counts.score`.
        mean_f1_of: places of the labels that f1_mean_labels averages.
    """
    classes = scores.shape[1]
    offsets = np.zeros(classes)
    best = _score(scores, gold, name, mean_f1_of)
    for _ in range(10):
        before = best
        for place in range(classes):
            others = np.delete(scores - offsets, place, axis=1).max(axis=1)
            # The label is predicted where its log probability minus the offset is above the others.
            margins = np.unique(scores[:, place] - others)
            middles = (margins[1:] + margins[:-1]) / 2
            if len(middles) > _CANDIDATES:
                middles = np.quantile(middles, np.linspace(0, 1, _CANDIDATES))
            for offset in middles[np.argsort(np.abs(middles - offsets[place]), kind="stable")]:
                tried = offsets.copy()
                tried[place] = offset
                found = _score(scores - tried, gold, name, mean_f1_of)
                if found > best + 1e-12:
                    best, offsets = found, tried
        if best <= before:
            break
    return np.asarray(np.exp(offsets - special.logsumexp(offsets)))


def _score(scores: np.ndarray, gold: np.ndarray, name: str, mean_f1_of: tuple[int, ...]) -> float:
    classes, predicted = scores.shape[1], scores.argmax(axis=1)
    confusion = np.bincount(gold * (classes + 1) + predicted, minlength=classes * (classes + 1)).reshape(classes, -1)
    return float(label_counts.score(label_counts.of_confusion(confusion), name, mean_f1_of))
