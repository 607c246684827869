"""Samples of which a larger one contains every smaller one."""

import itertools

import pytest
from toy_runs import dataset

from common.core.errors import DataError
from common.data.nested_samples import nested_sample
from common.data.rows import Row
from common.data.splits import draw_train_rows, sample_rows

LABELS = ["con", "neu", "pro"]
ROWS = [Row(str(number), (f"text {number}",), min(number % 10, 2)) for number in range(200)]  # 20, 20 and 160 rows


def drawn(count, balanced=False, seed=13, rows=ROWS):
    return nested_sample(rows, count, LABELS, seed, balanced)


def counts(rows):
    return [sum(row.label == label for row in rows) for label in range(3)]


@pytest.mark.parametrize("balanced", [False, True])
def test_a_larger_sample_contains_every_smaller_one(balanced):
    sizes = range(3, 61) if balanced else range(3, 201)
    samples = [[row.id for row in drawn(size, balanced)] for size in sizes]
    assert [len(sample) for sample in samples] == list(sizes)
    for small, large in itertools.pairwise(samples):
        assert set(small) < set(large)
    assert all(sample == sorted(sample, key=int) for sample in samples)  # the order of the rows


def test_shares_of_the_labels_are_those_of_all_rows():
    for size in range(10, 201, 10):
        assert counts(drawn(size)) == [size // 10, size // 10, size - 2 * (size // 10)]
    assert drawn(200) == ROWS
    assert counts(drawn(3)) == [1, 1, 1]  # a row of each label comes first


def test_a_balanced_sample_has_as_many_rows_of_each_label():
    assert counts(drawn(24, balanced=True)) == [8, 8, 8]
    assert sorted(counts(drawn(25, balanced=True))) == [8, 8, 9]


def test_the_seed_chooses_the_rows():
    assert drawn(60) == drawn(60)
    assert drawn(60) != drawn(60, seed=14)


def test_too_few_rows_are_refused():
    with pytest.raises(DataError, match="needs 21 rows of the label 'con'; there are 20"):
        drawn(63, balanced=True)
    with pytest.raises(DataError, match=r"sample of 2 train rows .* 3 labels"):
        drawn(2)


def test_sampling_selects_how_rows_are_drawn():
    about = dataset(labels=LABELS)
    seed = about.splits.seed
    assert draw_train_rows(ROWS, 60, "stratified", about) == sample_rows(ROWS, 60, seed)
    assert draw_train_rows(ROWS, 60, "nested", about) == drawn(60, seed=seed)
    assert draw_train_rows(ROWS, 60, "balanced", about) == drawn(60, balanced=True, seed=seed)
    assert draw_train_rows(ROWS, None, "stratified", about) == ROWS
