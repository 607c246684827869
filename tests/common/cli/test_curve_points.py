"""Which runs a learning curve has."""

import dataclasses
from pathlib import Path

import pytest

from common.cli import curve_points, options
from common.cli.target import resolve_baseline, resolve_target
from common.config.run_request import RunRequest
from common.core.errors import ConfigError

REQUEST = RunRequest("minilm-lora", outputs=Path("outputs"))  # 675 train rows of three labels
SAMPLE = "training.max_train_samples"


def shown(found):
    return [(one.model, one.baseline, " ".join(one.overrides), one.shots) for one in found]


def nested(count):
    return f"{SAMPLE}={count} training.sampling=nested"


def test_a_job_and_two_baselines_by_percent():
    found = shown(curve_points.expand(REQUEST, None, per_label=False))
    sizes = [nested(68), nested(135), nested(270), nested(472), ""]
    assert found[:5] == [("minilm-lora", "", size, None) for size in sizes]  # round(67.5) is 68
    assert found[5:10] == [(None, "tfidf", size, None) for size in sizes]
    assert found[10:] == [("minilm-lora", "embedding", size, None) for size in sizes]


def test_every_run_has_a_folder_and_is_of_the_same_rows():
    request = dataclasses.replace(REQUEST, overrides=("training.epochs=1",))
    found = curve_points.with_seeds(curve_points.expand(request, "50,100", per_label=False), (1, 2))
    targets = [(resolve_baseline if one.baseline else resolve_target)(one) for one in found]
    names = [target.folder.relative_to("outputs/stance-sample").as_posix() for target in targets]
    half = f"{SAMPLE}=338,training.sampling=nested"
    assert names == [
        f"minilm-lora/training.epochs=1,{half}/seed-1",
        f"minilm-lora/training.epochs=1,{half}/seed-2",
        "minilm-lora/training.epochs=1/seed-1",
        "minilm-lora/training.epochs=1/seed-2",
        f"classical/{half}/baseline-tfidf",
        "classical/baseline-tfidf",
        f"minilm-lora/{half}/baseline-embedding",
        "minilm-lora/baseline-embedding",
    ]
    parser = options.parser("", "model", "dataset", "set", "seed", "data", "baseline", "shots", "outputs")
    for one in found:
        assert options.parse(parser, options.words(one))[0] == one


def test_few_labels():
    request = dataclasses.replace(REQUEST, baseline="embedding")
    found = shown(curve_points.expand(request, None, per_label=True))
    assert [words for *_, words, _ in found] == [f"{SAMPLE}={n} training.sampling=balanced" for n in (24, 48, 96, 192)]


def test_few_shot_shows_the_whole_sample():
    request = RunRequest("smollm2-135m-prompt", baseline="few-shot")
    found = curve_points.expand(request, "1 4", per_label=True)
    assert shown(found) == [
        ("smollm2-135m-prompt", "few-shot", f"{SAMPLE}={n} training.sampling=balanced", n) for n in (3, 12)
    ]
    assert [one.seed for one in curve_points.with_seeds(found, (1, 2))] == [1, 2, 1, 2]


def test_a_job_s_own_sample_is_all_there_is():
    request = dataclasses.replace(REQUEST, overrides=(f"{SAMPLE}=200",))
    found = shown(curve_points.expand(request, "50,100", per_label=False))
    assert [words for *_, words, _ in found] == [nested(100), nested(200)] * 3


@pytest.mark.parametrize(
    ("changes", "sizes", "per_label", "reason"),
    [
        ({"baseline": "majority"}, None, False, "BASELINE=majority learns from no train rows"),
        ({"model": "smollm2-135m-prompt", "baseline": "few-shot"}, None, False, "PER_LABEL=1"),
        ({"overrides": ("training.sampling=nested",)}, None, False, "draws its samples itself"),
        ({"model": "minilm-emotion-lora"}, None, False, "is a sweep of"),
        ({}, "10,200", False, "SIZES is '10,200'; .* from 1 to 100"),
        ({}, "a", False, "SIZES is 'a'"),
        ({}, "0", True, "rows of each label, from 1"),
    ],
)
def test_what_is_no_curve_is_refused(changes, sizes, per_label, reason):
    with pytest.raises(ConfigError, match=reason):
        curve_points.expand(dataclasses.replace(REQUEST, **changes), sizes, per_label)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (dataclasses.replace(REQUEST, dataset="stance-sample-by-claim"), ("folds", "stance-sample-by-claim.yaml")),
        (dataclasses.replace(REQUEST, dataset="stance-sample-by-claim", overrides=("fold=1",)), ("folds",)),
        (dataclasses.replace(REQUEST, overrides=("ablation=second-text",)), ("ablation=second-text",)),
    ],
)
def test_what_has_no_curve_is_refused_before_anything_is_trained(request_, words):
    with pytest.raises(ConfigError) as raised:
        curve_points.expand(request_, None, per_label=False)
    assert all(word in str(raised.value) for word in words)


def test_a_curve_without_a_dataset_asks_for_it():
    with pytest.raises(ConfigError, match="DATASET"):
        curve_points.expand(dataclasses.replace(REQUEST, model=None, baseline="tfidf"), None, per_label=False)
