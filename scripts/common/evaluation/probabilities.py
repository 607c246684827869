"""Measures of probabilities, from predictions alone: calibration error, Brier score, and ranking by label.

Names are scikit-learn's scorer names. The expected calibration error has bins of equal mass: confidence is the
probability of the most probable label, and the error is the mean distance between a bin's mean confidence and its share
of right rows (M. P. Naeini, G. Cooper, M. Hauskrecht, AAAI 2015).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

BINS, ROWS_PER_BIN = 15, 30  # at most so many bins, of at least so many rows
_DRAWS = 999
_DRAWN_AT_ONCE = 2**21


def measures(probabilities: np.ndarray, gold: np.ndarray) -> dict[str, Any]:
    """Return the measures of probabilities (N, C) for gold labels (N,), which are places.

    Returns:
        brier_score (mean over rows of the squared distance to the gold label, summed over labels),
        expected_calibration_error, expected_calibration_error_interval (95 %), expected_calibration_error_by_chance (of
        a calibrated model with these probabilities), and reliability: for every bin its number of rows n, confidence
        and accuracy.
    """
    labels = list(range(probabilities.shape[1]))
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == gold
    bins = equal_mass_bins(confidence)
    interval, by_chance = error_interval(confidence, right, bins)
    return {
        "brier_score": float(brier_score_loss(gold, probabilities, labels=labels, scale_by_half=False)),
        "expected_calibration_error": calibration_error(confidence, right, bins),
        "expected_calibration_error_interval": interval,
        "expected_calibration_error_by_chance": by_chance,
        "reliability": [
            {
                "n": int((bins == one).sum()),
                "confidence": float(confidence[bins == one].mean()),
                "accuracy": float(right[bins == one].mean()),
            }
            for one in np.unique(bins)
        ],
    }


def by_label(probabilities: np.ndarray, gold: np.ndarray) -> list[dict[str, float | None]]:
    """Return roc_auc and average_precision of each label against the others; None where gold is always or never it."""
    found: list[dict[str, float | None]] = []
    for place in range(probabilities.shape[1]):
        is_it, scores = gold == place, probabilities[:, place]
        if is_it.all() or not is_it.any():
            found.append({"roc_auc": None, "average_precision": None})
            continue
        precision = float(average_precision_score(is_it, scores))
        found.append({"roc_auc": float(roc_auc_score(is_it, scores)), "average_precision": precision})
    return found


def equal_mass_bins(confidence: np.ndarray) -> np.ndarray:
    """Return the number of each row's bin (N,); bins have equally many rows, and equal confidences share a bin."""
    bins = int(np.clip(len(confidence) // ROWS_PER_BIN, 1, BINS))
    edges = np.quantile(confidence, np.linspace(0, 1, bins + 1)[1:-1])
    return np.searchsorted(np.unique(edges), confidence, side="left")


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: np.ndarray) -> float:
    """Return the expected calibration error of rows (N,) in their bins (N,)."""
    return float(np.abs(np.bincount(bins, confidence - right)).sum() / len(bins))


def error_interval(confidence: np.ndarray, right: np.ndarray, bins: np.ndarray) -> tuple[list[float], float]:
    """Return the 95 % interval of the expected calibration error, and the error that a calibrated model would show.

    The error of few rows is too high: also a calibrated model has bins that are off by chance. The bootstrap of the
    rows shows by how much, and the interval is around the error without that. It begins at 0 where a model with the
    same probabilities, all of them true, shows so high an error in more than 2.5 % of the cases.
    """
    rng, rows, found = np.random.default_rng(len(bins)), len(bins), calibration_error(confidence, right, bins)
    apart = confidence - right
    draws, calibrated = [], []
    many = max(1, _DRAWN_AT_ONCE // rows)
    for start in range(0, _DRAWS, many):
        shape = min(many, _DRAWS - start), rows
        drawn = rng.integers(rows, size=shape)
        draws.append(_errors(apart[drawn], bins[drawn]))
        calibrated.append(_errors(confidence - (rng.random(shape) < confidence), np.broadcast_to(bins, shape)))
    errors, by_chance = np.concatenate(draws), np.concatenate(calibrated)
    unbiased, reach = max(0.0, 2 * found - float(errors.mean())), special.ndtri(0.975) * float(errors.std())
    low = 0.0 if found <= np.quantile(by_chance, 0.975) else max(0.0, unbiased - reach)
    return [float(low), float(min(1.0, unbiased + reach))], float(by_chance.mean())


def _errors(apart: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Return the calibration errors (T,) of samples: confidence minus right (T, N), in their bins (T, N)."""
    samples, rows = apart.shape
    count = int(bins.max()) + 1
    cells = bins + count * np.arange(samples)[:, None]
    sums = np.bincount(cells.ravel(), apart.ravel(), minlength=count * samples).reshape(samples, count)
    return np.asarray(np.abs(sums).sum(axis=1) / rows)


def of_records(records: Sequence[dict[str, Any]], labels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return natural-log probabilities (N, C) and gold places (N,) of the records of a predictions file."""
    scores = np.array([[record["scores"][label] for label in labels] for record in records])
    places = {label: place for place, label in enumerate(labels)}
    return scores, np.array([places[str(record["gold"])] for record in records])
