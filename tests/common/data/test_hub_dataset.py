import json

import pandas as pd
import pytest
from toy_runs import dataset

from common.config.dataset import Source
from common.core.errors import DataError
from common.core.schema import validate
from common.data import hub_dataset
from common.data.load import load_rows
from common.data.rows import Row

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def source(**changes):
    return validate(Source, changes, "data/x.yaml")


@pytest.fixture
def stances(tmp_path):
    """A Hub dataset on disk: two configurations, three splits and one more, class numbers with names."""
    folder = tmp_path / "stances"
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["none", "against", "favor"])}
    )
    lines = ["---", "configs:"]
    for topic in ("atheism", "climate"):
        lines += [f"- config_name: {topic}", "  data_files:"]
        for split in ("train", "dev", "test", "unsupervised"):
            rows = {"text": [f"{topic} {split} {number}" for number in range(3)], "label": [2, 0, 1]}
            if split == "unsupervised":
                rows["label"] = [-1, -1, -1]
            table = datasets.Dataset.from_dict(rows, features=features)
            (folder / topic).mkdir(parents=True, exist_ok=True)
            table.to_parquet(folder / topic / f"{split}.parquet")
            lines += [f"  - split: {split}", f"    path: {topic}/{split}.parquet"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return folder


def parts(*names):
    return [{"config": name, "constants": {"target": name.title()}} for name in names]


def test_parts_are_joined_with_their_constants(stances):
    tables = hub_dataset.read_hub(
        source(hub=str(stances), parts=parts("atheism", "climate"), rename={"text": "tweet", "label": "stance"})
    )
    assert list(tables) == ["train", "validation", "test"]  # dev is validation, unsupervised is none of ours
    table, name = tables["validation"]
    assert name == f"{stances} validation"
    assert table.index.tolist() == [1, 2, 3, 4, 5, 6]
    assert table["stance"].tolist() == ["favor", "none", "against"] * 2
    assert table["target"].tolist() == ["Atheism"] * 3 + ["Climate"] * 3
    assert table["tweet"].tolist()[3] == "climate dev 0"


def test_rows_through_the_dataset(stances):
    toy = dataset(
        source={"hub": str(stances), "parts": parts("climate"), "rename": {"text": "tweet"}},
        text=["target", "tweet"],
        label="label",
        labels=["against", "favor", "none"],
    )
    rows = load_rows(toy)
    assert rows["train"][0] == Row(id="train-0", texts=("Climate", "climate train 0"), label=1)


def test_plain_csv_files(tmp_path):
    folder = tmp_path / "plain"
    folder.mkdir()
    for split in ("train", "test"):
        pd.DataFrame({"text": ["a", "b"], "label": [1, 0]}).to_csv(folder / f"{split}.csv", index=False)
    tables = hub_dataset.read_hub(source(hub=str(folder)))
    assert list(tables) == ["train", "test"]
    assert tables["test"][0]["label"].tolist() == [1, 0]


def test_a_hub_id_without_internet_says_what_to_do():
    with pytest.raises(DataError) as raised:
        hub_dataset.read_hub(source(hub="nobody/no_such_dataset", revision="abc"))
    message = str(raised.value)
    assert message.startswith("the Hub dataset nobody/no_such_dataset (revision abc) cannot be loaded: ")
    assert "DATA_DIR=<folder with {train,validation,test}.<format>>" in message
    assert "\n" not in message


def test_a_wrong_configuration_is_named(stances):
    with pytest.raises(DataError, match=r"stances/atheist \(revision main\) cannot be loaded: .*atheis[mt]"):
        hub_dataset.read_hub(source(hub=str(stances), parts=parts("atheist")))


def test_no_split_of_ours(tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: unsupervised\n    path: a.csv\n---\n"
    )
    (folder / "a.csv").write_text("text\nx\n")
    with pytest.raises(DataError, match="none of the splits train, validation, test"):
        hub_dataset.read_hub(source(hub=str(folder)))


@pytest.mark.parametrize("name", ["IMDb", "tweet_eval", "SomeTweets", "HTMLPages", "a-B2C", "emotion"])
def test_names_in_the_cache_are_the_librarys(name):
    from datasets.naming import camelcase_to_snakecase

    assert hub_dataset._snake_case(name) == camelcase_to_snakecase(name)


def test_what_the_cache_lacks(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "rows"))
    both, one = source(hub="Lab/X"), source(hub="Lab/X", parts=[{"config": "a"}])
    assert hub_dataset.find_missing(both) == "the Hub dataset Lab/X: it is not in this machine's cache."
    for name in ("a", "b"):
        place = tmp_path / "rows" / "Lab___x" / name / "0.0.0" / ("c" * 40)
        place.mkdir(parents=True)
        splits = {"train": {"name": "train", "shard_lengths": [1, 1]}, "test": {"name": "test"}}
        info = {"config_name": name, "dataset_name": "x", "splits": splits}
        (place / "dataset_info.json").write_text(json.dumps(info))
        for file in ("x-train-00000-of-00002.arrow", "x-train-00001-of-00002.arrow", "x-test.arrow"):
            (place / file).touch()
    assert hub_dataset.find_missing(one) is None
    assert hub_dataset.find_missing(one, "d" * 40).endswith(f"in this machine's cache is commit {'c' * 40}.")
    assert "several configurations (a, b); name one in the dataset's `parts`" in hub_dataset.find_missing(both)
    (tmp_path / "rows" / "Lab___x" / "a" / "0.0.0" / ("c" * 40) / "x-train-00001-of-00002.arrow").unlink()
    assert hub_dataset.find_missing(one).endswith("x-train-00001-of-00002.arrow is missing.")
    assert hub_dataset.find_missing(source(hub=str(tmp_path))) is None
