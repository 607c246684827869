"""FOLDS= as requests: one for each fold, with the override that selects it."""

import pytest

from common.cli import folds
from common.cli.target import resolve_baseline, resolve_target
from common.config.run_request import RunRequest
from common.core.errors import ConfigError

BY_CLAIM = RunRequest("minilm-lora", "stance-sample-by-claim", overrides=("training.epochs=1",))


def test_all_folds_are_variants():
    found = folds.expand([BY_CLAIM], "all")
    targets = [resolve_target(request) for request in found]
    assert [target.variant for target in targets] == [f"fold={n},training.epochs=1" for n in range(1, 6)]
    assert [target.dataset.splits.fold for target in targets] == [1, 2, 3, 4, 5]
    assert found[1].command("train") == (
        "make train MODEL=minilm-lora DATASET=stance-sample-by-claim SET='training.epochs=1 fold=2'"
    )


def test_some_folds_and_none():
    assert [request.overrides[-1] for request in folds.expand([BY_CLAIM], "3, 1 3")] == ["fold=3", "fold=1"]
    assert folds.expand([BY_CLAIM], None) == [BY_CLAIM]


def test_the_folds_of_a_classical_baseline():
    request = RunRequest(dataset="stance-sample-by-claim", baseline="tfidf")
    targets = [resolve_baseline(one) for one in folds.expand([request], "1,2")]
    assert [target.folder.parent.name for target in targets] == ["fold=1", "fold=2"]
    assert targets[1].dataset.splits.fold == 2


@pytest.mark.parametrize("given", ["0", "6", "one", "", "1-3"])
def test_what_is_no_fold(given):
    with pytest.raises(ConfigError, match="5 folds; allowed: all, or 1 to 5"):
        folds.expand([BY_CLAIM], given)


def test_folds_that_do_not_fit():
    with pytest.raises(ConfigError, match=r"data/stance-sample\.yaml does not divide"):
        folds.expand([RunRequest("minilm-lora", "stance-sample")], "all")
    with pytest.raises(ConfigError, match="give one of them"):
        folds.expand([RunRequest("minilm-lora", "stance-sample-by-claim", overrides=("fold=1",))], "all")
    with pytest.raises(ConfigError, match="FOLDS=all"):
        resolve_target(BY_CLAIM)
