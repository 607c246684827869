"""Compute metrics from predictions alone, without a model or a GPU.

A prediction is `{id, group, gold, predicted, scores}`; `scores` maps each label, as text, to its natural-log
probability. Names are scikit-learn's scorer names; every fraction lies in [0, 1].
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    matthews_corrcoef,
    precision_recall_fscore_support,
)

from common.config.label_values import Label
from common.evaluation import probabilities

Prediction = dict[str, Any]
_NO_LABEL = "\0"  # stands for a generated text that is not a label word; no label contains this character


def compute(
    predictions: Sequence[Prediction], labels: Sequence[Label], mean_f1_labels: Sequence[Label] | None = None
) -> dict[str, Any]:
    """Score predictions against gold labels.

    Args:
        predictions: one record per row.
        labels: all labels in class order.
        mean_f1_labels: labels whose mean F1 is reported as `f1_mean_labels` (SemEval-2016 task 6: against, favor).

    Returns:
        accuracy, f1_macro, f1_micro, f1_weighted, matthews_corrcoef, loss (mean negative log-likelihood, natural
        log), predicted_labels_count (different labels among the predictions), f1_mean_labels (if `mean_f1_labels` is
        given), invalid_share (of generated texts: the share that is not a label word; they count as errors), labels,
        per_label, confusion (rows gold, columns predicted) and groups; and what the probabilities are worth:
        brier_score, expected_calibration_error with its interval, reliability (`probabilities.measures`), and roc_auc
        and average_precision in per_label.
        Averages run over the labels that occur in gold or predictions, as scikit-learn's do.

    Raises:
        ValueError: no predictions.
    """
    if not predictions:
        raise ValueError("no predictions to score")
    names = [str(label) for label in labels]
    gold = [str(record["gold"]) for record in predictions]
    predicted = [_NO_LABEL if record["predicted"] is None else str(record["predicted"]) for record in predictions]
    precision, recall, f1, support = precision_recall_fscore_support(gold, predicted, labels=names, zero_division=0)
    result: dict[str, Any] = {
        "n": len(predictions),
        "loss": -math.fsum(record["scores"][str(record["gold"])] for record in predictions) / len(predictions),
        **_averages(gold, predicted),
    }
    result["predicted_labels_count"] = len(set(predicted) - {_NO_LABEL})
    if any("generated" in record for record in predictions):
        result["invalid_share"] = predicted.count(_NO_LABEL) / len(predictions)
    if mean_f1_labels:
        chosen = [names.index(str(label)) for label in mean_f1_labels]
        result["f1_mean_labels"] = float(sum(f1[index] for index in chosen) / len(chosen))
        result["f1_mean_labels_of"] = list(mean_f1_labels)
    result["labels"] = list(labels)
    result["per_label"] = {
        name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)}
        for name, p, r, f, s in zip(names, precision, recall, f1, support, strict=True)
    }
    scores, places = probabilities.of_records(predictions, names)
    chances = np.exp(scores)
    chances /= chances.sum(axis=1, keepdims=True)  # the file has six decimals
    result |= probabilities.measures(chances, places)
    for name, ranking in zip(names, probabilities.by_label(chances, places), strict=True):
        result["per_label"][name] |= ranking
    result["confusion"] = confusion_matrix(gold, predicted, labels=names).tolist()
    groups = sorted({str(record["group"]) for record in predictions if record["group"] is not None})
    result["groups"] = {}
    for group in groups:
        members = [index for index, record in enumerate(predictions) if str(record["group"]) == group]
        own_gold, own_predicted = ([names[i] for i in members] for names in (gold, predicted))
        result["groups"][group] = {"n": len(members), **_averages(own_gold, own_predicted)}
        if mean_f1_labels:
            asked = list(map(str, mean_f1_labels))
            found = f1_score(own_gold, own_predicted, labels=asked, average="macro", zero_division=0)
            result["groups"][group]["f1_mean_labels"] = float(found)
    return result


def _averages(gold: list[str], predicted: list[str]) -> dict[str, float]:
    real = sorted({*gold, *predicted} - {_NO_LABEL})
    averages = {
        "accuracy": float(accuracy_score(gold, predicted)),
        "f1_macro": float(f1_score(gold, predicted, labels=real, average="macro", zero_division=0)),
        "f1_micro": float(f1_score(gold, predicted, average="micro", zero_division=0)),
        "f1_weighted": float(f1_score(gold, predicted, labels=real, average="weighted", zero_division=0)),
        # With one label only the correlation is undefined, and scikit-learn warns about the 1 x 1 matrix.
        "matthews_corrcoef": float(matthews_corrcoef(gold, predicted)) if len({*gold, *predicted}) > 1 else 0.0,
    }
    # With one label per row every error is one false positive and one false negative, so the two are equal.
    if not math.isclose(averages["f1_micro"], averages["accuracy"], abs_tol=1e-12):
        raise AssertionError(f"micro-F1 {averages['f1_micro']} differs from accuracy {averages['accuracy']}")
    return averages


def prefixed(split: str, result: dict[str, Any]) -> dict[str, Any]:
    """Return metrics with the split in front of every name: `test_accuracy`."""
    return {f"{split}_{key}": value for key, value in result.items()}
