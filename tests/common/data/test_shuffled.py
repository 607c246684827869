"""Shuffled first texts: a permutation within each split, the same for the same seed, and no row keeps its own."""

from toy_runs import dataset

from common.core import files
from common.data.load import load_rows
from common.data.rows import Row
from common.data.shuffled import shuffle_first_texts


def members(split, count):
    return [Row(f"{split}{n}", (f"{split} claim {n}", f"sentence {n}", "more"), n % 2) for n in range(count)]


def test_a_permutation_within_the_split():
    rows = {"train": members("train", 50), "test": members("test", 7)}
    found = shuffle_first_texts(rows, 1)
    for split, before in rows.items():
        after = found[split]
        assert sorted(row.texts[0] for row in after) == sorted(row.texts[0] for row in before)
        assert all(one.texts[0] != other.texts[0] for one, other in zip(before, after, strict=True))
        assert [(r.id, r.texts[1:], r.label) for r in after] == [(r.id, r.texts[1:], r.label) for r in before]
    assert shuffle_first_texts(rows, 1) == found and shuffle_first_texts(rows, 2) != found


def test_one_row_and_no_row_stay():
    rows = {"train": members("a", 1), "test": []}
    assert shuffle_first_texts(rows, 1) == rows


def test_the_rows_of_a_dataset_are_shuffled_and_it_is_said(tmp_path):
    lines = [{"claim": f"claim {n}", "sentence": f"sentence {n}", "stance": ("con", "pro")[n % 2]} for n in range(20)]
    for split in ("train", "validation", "test"):
        files.write_jsonl(tmp_path / f"{split}.jsonl", lines)
    whole, shuffled = (load_rows(dataset(splits=splits), tmp_path) for splits in ({}, {"shuffled": True}))
    for split in ("train", "validation", "test"):
        assert [row.texts[1] for row in shuffled[split]] == [row.texts[1] for row in whole[split]]
        assert all(one.texts[0] != two.texts[0] for one, two in zip(whole[split], shuffled[split], strict=True))
    assert any("the texts 'claim' are shuffled" in note for note in shuffled.notes)
