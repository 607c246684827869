import math

import numpy as np
import pytest
from sklearn.metrics import f1_score, matthews_corrcoef

from common.evaluation import metrics

LABELS = ["con", "neu", "pro"]


def predictions(pairs, labels=LABELS, groups=None, chance=0.7):
    """One record for every "gold predicted" pair; the predicted label has probability `chance`."""
    rest = (1 - chance) / (len(labels) - 1)
    return [
        {
            "id": str(number),
            "group": groups[number] if groups else None,
            "gold": gold,
            "predicted": predicted,
            "scores": {str(label): math.log(chance if label == predicted else rest) for label in labels},
        }
        for number, (gold, predicted) in enumerate(pairs)
    ]


# Gold con 3, neu 2, pro 1. Right: 2 con, 1 neu, 1 pro.
PAIRS = [("con", "con"), ("con", "con"), ("con", "neu"), ("neu", "neu"), ("neu", "pro"), ("pro", "pro")]


def test_against_numbers_worked_out_by_hand():
    result = metrics.compute(predictions(PAIRS), LABELS)
    # con: P 2/2, R 2/3, F1 4/5. neu: P 1/2, R 1/2, F1 1/2. pro: P 1/2, R 1/1, F1 2/3.
    assert result["n"] == 6
    assert result["accuracy"] == pytest.approx(4 / 6)
    assert result["f1_macro"] == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)
    assert result["f1_weighted"] == pytest.approx((3 * 4 / 5 + 2 * 1 / 2 + 1 * 2 / 3) / 6)
    con = {"precision": 1.0, "recall": 2 / 3, "f1": 0.8, "support": 3}
    assert {key: result["per_label"]["con"][key] for key in con} == pytest.approx(con)
    assert result["confusion"] == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]  # rows gold, columns predicted
    # Four times ln 0.7 and twice ln 0.15.
    assert result["loss"] == pytest.approx(-(4 * math.log(0.7) + 2 * math.log(0.15)) / 6)
    # R_K of Gorodkin 2004: (c s - sum p_k t_k) / sqrt((s² - sum p_k²)(s² - sum t_k²)).
    assert result["matthews_corrcoef"] == pytest.approx((4 * 6 - 12) / math.sqrt((36 - 12) * (36 - 14)))


def test_against_scikit_learn_on_random_labels():
    rng = np.random.default_rng(0)
    gold, predicted = (rng.choice(LABELS, 200).tolist() for _ in range(2))
    result = metrics.compute(predictions(zip(gold, predicted, strict=True)), LABELS)
    for average in ("macro", "micro", "weighted"):
        assert result[f"f1_{average}"] == pytest.approx(f1_score(gold, predicted, average=average))
    assert result["matthews_corrcoef"] == pytest.approx(matthews_corrcoef(gold, predicted))
    assert result["f1_micro"] == pytest.approx(result["accuracy"])


def test_mean_f1_of_chosen_labels():
    result = metrics.compute(predictions(PAIRS), LABELS, ["con", "pro"])
    assert result["f1_mean_labels"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert result["f1_mean_labels_of"] == ["con", "pro"]
    assert "f1_mean_labels" not in metrics.compute(predictions(PAIRS), LABELS)


def test_a_chosen_label_that_never_occurs_counts_as_zero():
    result = metrics.compute(predictions([("con", "con"), ("neu", "neu")]), LABELS, ["con", "pro"])
    assert result["f1_mean_labels"] == 0.5


def test_absent_labels_stay_out_of_averages_but_in_the_tables():
    result = metrics.compute(predictions([("con", "con"), ("neu", "con")]), LABELS)
    assert result["f1_macro"] == pytest.approx((2 / 3 + 0) / 2)
    pro = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0, "roc_auc": None, "average_precision": None}
    assert result["per_label"]["pro"] == pro
    assert result["confusion"] == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]


def test_constant_predictions_have_no_correlation():
    result = metrics.compute(predictions([("con", "con"), ("pro", "con")]), LABELS)
    assert result["matthews_corrcoef"] == 0.0


def test_integer_labels():
    result = metrics.compute(predictions([(0, 0), (1, 0)], labels=[0, 1]), [0, 1], [1])
    assert result["labels"] == [0, 1]
    assert result["per_label"]["0"]["support"] == 1
    assert result["f1_mean_labels"] == 0.0


def test_groups_are_scored_on_their_own():
    result = metrics.compute(predictions(PAIRS, groups=["b", "b", "b", "a", "a", None]), LABELS)
    assert list(result["groups"]) == ["a", "b"]
    assert result["groups"]["a"]["n"] == 2
    assert result["groups"]["a"]["accuracy"] == 0.5
    assert result["groups"]["b"]["accuracy"] == pytest.approx(2 / 3)
    assert metrics.compute(predictions(PAIRS), LABELS)["groups"] == {}


def test_no_predictions():
    with pytest.raises(ValueError, match="no predictions"):
        metrics.compute([], LABELS)


def test_prefixed():
    assert metrics.prefixed("test", {"n": 3, "loss": 0.1}) == {"test_n": 3, "test_loss": 0.1}


def test_generated_texts_that_are_no_answer_are_errors():
    def generated(gold: str, predicted: str | None) -> dict:
        scores = {"con": -0.5, "pro": -1.0}
        return {"id": "x", "group": gold, "gold": gold, "predicted": predicted, "scores": scores, "generated": "…"}

    records = [generated("con", "con"), generated("con", None), generated("pro", "pro"), generated("pro", None)]
    result = metrics.compute(records, ["con", "pro"])
    assert result["invalid_share"] == 0.5
    assert result["accuracy"] == result["f1_micro"] == 0.5
    # By hand: of either label nothing is predicted wrongly and half is missed, so F1 = 2·1·½ / 1½; "no answer" is none.
    assert result["f1_macro"] == pytest.approx(2 / 3) and result["f1_weighted"] == pytest.approx(2 / 3)
    con = {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    assert {key: result["per_label"]["con"][key] for key in con} == con
    assert result["confusion"] == [[1, 0], [0, 1]]
    assert result["groups"]["con"]["accuracy"] == 0.5
    nothing = metrics.compute([generated("con", None)] * 3, ["con", "pro"])
    assert (nothing["invalid_share"], nothing["accuracy"], nothing["f1_macro"]) == (1.0, 0.0, 0.0)
    assert "invalid_share" not in metrics.compute(
        [{"id": "x", "group": None, "gold": "con", "predicted": "con", "scores": {"con": 0.0, "pro": -9.0}}],
        ["con", "pro"],
    )
