"""Outcomes survive the file, are the same for rows in another order, and are small."""

import json

import numpy as np
import pytest

from common.evaluation import outcomes

LABELS = ["con", "neu", "pro"]


def records(count=30, groups=True, seed=0):
    rng = np.random.default_rng(seed)
    return [
        {
            "id": f"r{n}",
            "group": f"g{n % 4}" if groups else None,
            "gold": LABELS[n % 3],
            "predicted": None if n == 7 else LABELS[rng.integers(3)],
        }
        for n in range(count)
    ]


@pytest.mark.parametrize("groups", [True, False])
def test_a_file_gives_the_same_outcomes_again(groups):
    found = outcomes.of_predictions(records(groups=groups), LABELS)
    again = outcomes.read(json.loads(json.dumps(found.document())))
    assert (again.rows_sha256, again.classes) == (found.rows_sha256, 3)
    assert np.array_equal(again.gold, found.gold) and np.array_equal(again.predicted, found.predicted)
    assert np.array_equal(again.groups, found.groups) if groups else again.groups is None
    pairs = [(r["gold"], r["predicted"]) for r in records(groups=groups)]
    for gold, row in enumerate(LABELS):
        expected = [pairs.count((row, label)) for label in [*LABELS, None]]
        assert found.confusion()[gold].tolist() == expected


def test_rows_of_two_folds_are_the_same_by_their_ids():
    one, other = (outcomes.of_predictions(part, LABELS, with_rows=True) for part in (records()[:20], records()[10:]))
    again = outcomes.read(json.loads(json.dumps(one.document())))
    assert np.array_equal(again.rows, one.rows) and len(set(one.rows.tolist())) == 20
    assert len(set(one.rows.tolist()) & set(other.rows.tolist())) == 10
    assert outcomes.of_predictions(records(), LABELS).rows is None


def test_the_order_of_the_rows_changes_nothing():
    found = outcomes.of_predictions(records(), LABELS)
    assert outcomes.of_predictions(records()[::-1], LABELS).document() == found.document()


@pytest.mark.parametrize("change", [{"id": "other"}, {"gold": "pro"}, {"group": "g9"}])
def test_other_rows_have_another_hash(change):
    changed = [records()[0] | change, *records()[1:]]
    one, other = (outcomes.of_predictions(rows, LABELS) for rows in (records(), changed))
    assert one.rows_sha256 != other.rows_sha256


@pytest.mark.parametrize(("classes", "groups"), [(2, 0), (77, 0), (3, 5000)])
def test_25_000_rows_take_at_most_30_kb(classes, groups):
    rng = np.random.default_rng(1)
    labels = [f"label {n}" for n in range(classes)]
    gold = rng.integers(classes, size=25_000)
    predicted = rng.integers(classes, size=25_000)  # nothing compresses worse than predictions by chance
    rows = [
        {
            "id": f"secret text {n}",
            "group": f"group {n % groups}" if groups else None,
            "gold": labels[gold[n]],
            "predicted": labels[predicted[n]],
        }
        for n in range(25_000)
    ]
    found = outcomes.of_predictions(rows, labels)
    text = json.dumps(found.document())
    assert len(text) <= 30_000
    assert "secret" not in text and "label" not in text and "group " not in text
    assert np.array_equal(outcomes.read(json.loads(text)).predicted, found.predicted)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"rows": "2:eJwDAAAAAAE="}, "damaged"),
        ({"schema": 99}, "schema is 99"),
        ({"predicted": "2:AAAA"}, "damaged"),
        ({"classes": 2}, "damaged"),
    ],
)
def test_a_damaged_file_is_named(change, word):
    document = outcomes.of_predictions(records(), LABELS).document() | change
    with pytest.raises(ValueError, match=word):
        outcomes.read(document)
