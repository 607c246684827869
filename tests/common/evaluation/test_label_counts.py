"""The scores of many confusion matrices at once are those of `metrics.compute`, which scikit-learn computes."""

import numpy as np
import pytest

from common.evaluation import label_counts, metrics

LABELS = ["con", "neu", "pro", "off"]
NAMES = ["accuracy", "f1_macro", "f1_micro", "f1_weighted", "matthews_corrcoef", "f1_mean_labels"]


def random_case(rng, rows):
    """Gold and predicted places; some labels may be absent, and place 4 is a text that is no label."""
    some = rng.choice(4, rng.integers(1, 5), replace=False)
    gold = rng.choice(some, rows)
    return gold, np.where(rng.random(rows) < 0.6, gold, rng.integers(0, 5, rows))


def confusion(gold, predicted, classes=4):
    found = np.zeros((classes, classes + 1), dtype=int)
    np.add.at(found, (gold, predicted), 1)
    return found


@pytest.mark.parametrize("rows", [1, 2, 5, 60])
def test_scores_are_those_of_the_metrics(rows):
    rng = np.random.default_rng(rows)
    cases = [random_case(rng, rows) for _ in range(20)]
    counts = label_counts.of_confusion(np.stack([confusion(*case) for case in cases]))
    assert counts.shape == (20, 3, 4)
    for number, (gold, predicted) in enumerate(cases):
        records = [
            {
                "gold": LABELS[one],
                "predicted": LABELS[other] if other < 4 else None,
                "scores": dict.fromkeys(LABELS, -1.0),
                "group": None,
            }
            for one, other in zip(gold, predicted, strict=True)
        ]
        expected = metrics.compute(records, LABELS, ["con", "pro"])
        for name in NAMES:
            assert label_counts.score(counts, name, [0, 2])[number] == pytest.approx(expected[name]), name
        for place, label in enumerate(LABELS):
            rate = label_counts.score(counts, f"{label_counts.ERROR_RATE}{place}")[number]
            part = expected["per_label"][label]
            assert rate == pytest.approx(1 - part["recall"]) if part["support"] else not np.isfinite(rate)


def test_an_unknown_score_is_no_number():
    with pytest.raises(KeyError):
        label_counts.score(np.ones((3, 2)), "roc_auc")
