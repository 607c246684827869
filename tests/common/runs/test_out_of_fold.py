"""The out-of-fold file: there when the last fold is, the same whatever came first, and of one variant alone."""

import dataclasses
import json
import shutil

import pytest
from toy_runs import finished_run, run_config

from common.config.dataset import Folds
from common.core import files
from common.runs.out_of_fold import variant_without_fold, write_out_of_fold

FOLDED = {"splits": {"folds": "group", "fractions": {"validation": 0.1}}, "group": "topic"}


@pytest.fixture
def fold(tmp_path):
    """`fold(2)`: the finished run of the second fold, with its config."""

    def make(number, outputs=tmp_path, right=3, rows="all", count=3, splits=FOLDED, **overrides):
        config = run_config(overrides={"fold": number, **overrides}, data_sha256=str(number) * 64, **splits)
        config = dataclasses.replace(config, dataset=config.dataset.with_fold(number), folds=Folds(count, rows))
        return finished_run(outputs, config, right=right), config

    return make


def test_it_is_written_with_the_last_fold(fold, tmp_path):
    assert write_out_of_fold(*fold(2)) is None
    assert write_out_of_fold(*fold(1, right=1)) is None
    file = write_out_of_fold(*fold(3))
    assert file == tmp_path / "toy" / "minilm-lora" / "out-of-fold-seed-1.jsonl"
    records = files.read_jsonl(file)
    assert [record["fold"] for record in records] == [1] * 4 + [2] * 4 + [3] * 4
    assert sum(record["gold"] == record["predicted"] for record in records) == 1 + 3 + 3


def test_the_order_of_the_folds_does_not_matter(fold, tmp_path):
    for outputs, order in ((tmp_path / "a", (1, 2, 3)), (tmp_path / "b", (3, 1, 2))):
        for number in order:
            file = write_out_of_fold(*fold(number, outputs))
        assert file is not None
    one, other = tmp_path.glob("[ab]/toy/minilm-lora/out-of-fold-seed-1.jsonl")
    assert one.read_bytes() == other.read_bytes()


def test_variants_have_files_of_their_own(fold):
    for number in (1, 2):
        fold(number)
    last = fold(3, **{"training.epochs": 1})
    assert write_out_of_fold(*last) is None
    for number in (1, 2):
        fold(number, **{"training.epochs": 1})
    assert write_out_of_fold(*last).name == "out-of-fold-training.epochs=1-seed-1.jsonl"


def test_half_a_file_of_predictions_is_no_finished_fold(fold):
    (folder, _), second = fold(1, count=2), fold(2, count=2)
    whole = (folder / "predictions-test.jsonl").read_text()
    (folder / "predictions-test.jsonl").write_text(whole[: len(whole) // 2])
    assert write_out_of_fold(*second) is None
    (folder / "predictions-test.jsonl").write_text(whole)
    assert len(files.read_jsonl(write_out_of_fold(*second))) == 8


def test_a_damaged_config_beside_it(fold, tmp_path):
    fold(1)
    damaged, config = fold(2)
    (damaged / "config.yaml").write_text(json.dumps({"run": 1}))
    assert write_out_of_fold(*fold(3)) is None and config.dataset.splits.fold == 2


def test_a_long_name_of_a_variant_is_that_of_all_folds(fold):
    long = {"model": "/somewhere/else"}
    runs = [fold(number, **long) for number in (1, 2, 3)]
    one, again = write_out_of_fold(*runs[1]), write_out_of_fold(*runs[2])
    assert one == again and one.name.startswith("out-of-fold-model=else-")


@pytest.mark.parametrize(
    "model", ["/a-base-of-forty-characters-or-nearly-so", "/a-longer-base-whose-name-is-cut-in-a-folder"]
)
def test_the_name_does_not_depend_on_the_digits_of_the_fold(fold, model):
    """A variant's name is cut with the fold in it: at another place for fold 9 than for fold 10."""
    long = {"training.warmup_steps": 0.11, "training.learning_rate": 0.00012, "model": model}
    names = {variant_without_fold(fold(number, **long)[1]) for number in (1, 9, 10, 100)}
    assert len(names) == 1 and not [name for name in names if "fold=" in name]


def test_a_run_without_folds(tmp_path):
    config = run_config()
    assert write_out_of_fold(finished_run(tmp_path, config), config) is None


@pytest.mark.parametrize(
    "changed",
    [{"rows": "all and one more"}, {"splits": {"splits": {"folds": 6, "fractions": {"validation": 0.1}}}}],
    ids=["rows", "splits"],
)
def test_folds_of_other_rows_are_not_mixed(fold, changed, capsys):
    """A row would be missing, or there twice, and nothing would say so."""
    other = fold(1, **changed)[0]
    fold(2)
    assert write_out_of_fold(*fold(3)) is None
    assert f"{other}: it is a fold of other rows" in capsys.readouterr().out
    shutil.rmtree(other)
    fold(1)
    shutil.rmtree(other.parents[1] / "fold=3")
    assert len(files.read_jsonl(write_out_of_fold(*fold(3)))) == 12


def test_a_file_of_an_older_run_does_not_stay(fold):
    one, two = fold(1, count=2), fold(2, count=2)
    file = write_out_of_fold(*two)
    shutil.rmtree(one[0])
    fold(1, rows="changed since", count=2)
    assert write_out_of_fold(*two) is None and not file.exists()
