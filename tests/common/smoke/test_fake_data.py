"""Fake data fits every dataset; the settings of a smoke run keep a job's method and precision."""

import pytest

from common.config import catalog
from common.config.dataset import Dataset
from common.core.files import read_jsonl
from common.core.schema import validate
from common.data.load import load_rows
from common.smoke import fake_data


@pytest.mark.parametrize("name", catalog.names(catalog.DATASETS))
def test_rows_have_the_columns_and_labels_of_the_dataset(name, tmp_path):
    dataset = catalog.load_dataset(name)
    rows = load_rows(dataset, fake_data.write_rows(dataset, tmp_path))
    assert {split: len(members) for split, members in rows.items()} == {"train": 36, "validation": 12, "test": 12}
    for members in rows.values():
        assert {row.label for row in members} == set(range(len(dataset.labels)))
        assert {len(row.texts) for row in members} == {len(dataset.text)}
    texts = [row.texts for members in rows.values() for row in members]
    assert len(set(texts)) == len(texts), "every row is there once"


def test_every_column_that_a_dataset_can_name(tmp_path):
    document = {"schema": 1, "title": "T", "source": {"files": "all.csv"}, "text": ["a", "b", "c"], "label": "y"}
    columns = {"id": "key", "group": "g", "weight": "w"}
    dataset = validate(Dataset, {**document, **columns, "labels": list(range(20))}, "test")
    rows = load_rows(dataset, fake_data.write_rows(dataset, tmp_path))
    assert len(rows["test"]) == 40, "two of each of 20 labels"
    assert {row.weight for row in rows["train"]} == {1.0, 2.0} and rows["train"][0].group
    assert list(read_jsonl(tmp_path / "test.jsonl")[3]) == ["y", "g", "w", "key", "a", "b", "c"]


def test_settings(tiny_job):
    assert fake_data.overrides(tiny_job()) == ["training.epochs=1"]
    steps = tiny_job(**{"training.eval_every": 200, "method.layers_to_transform": [24, 25]})
    assert fake_data.overrides(steps)[1:] == ["training.eval_every=epoch", "method.layers_to_transform=[3]"]
    other = tiny_job("minilm-full", method={"name": "loha", "layers_to_transform": [24]})
    assert fake_data.overrides(other)[1:] == ["method.layers_to_transform=[3]"]
    deep = tiny_job("minilm-last-layers", **{"method.k": 16})
    assert fake_data.overrides(deep)[1:] == ["method.k=4"]
