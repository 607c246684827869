"""The run that a request means: its folder, its configuration, and what is refused."""

import dataclasses
from pathlib import Path

import pytest

from common.cli.target import adapter_folder, resolve_baseline, resolve_target, trained_folder
from common.config.run_request import RunRequest
from common.core.errors import ConfigError, ModelError, RunError

REQUEST = RunRequest("minilm-lora", outputs=Path("o"))
PLACE = Path("o/stance-sample")


def test_a_request_becomes_a_target(tmp_path):
    overrides = ("method.r=4", "training.epochs=1")
    target = resolve_target(dataclasses.replace(REQUEST, overrides=overrides, data_dir=tmp_path, seed=3))
    assert target.variant == "method.r=4,training.epochs=1"
    assert target.dataset_name == target.job.dataset == "stance-sample"
    assert target.folder == PLACE / "minilm-lora" / target.variant / "seed-3"
    config = target.config("sha")
    assert (config.seed, config.data_sha256, config.data_dir) == (3, "sha", str(tmp_path))


def test_dataset_replaces_the_jobs_own():
    target = resolve_target(RunRequest("minilm-lora", "tweeteval-stance"))
    assert target.dataset_name == "tweeteval-stance"
    assert target.dataset.labels == ["none", "against", "favor"]
    assert target.variant == ""


def test_best_metric_must_exist_for_the_dataset():
    overrides = ("training.best_metric=validation_f1_mean_labels",)
    resolve_target(RunRequest("minilm-lora", "tweeteval-stance", overrides))
    with pytest.raises(ConfigError, match=r"data/stance-sample\.yaml has no mean_f1_labels"):
        resolve_target(RunRequest("minilm-lora", overrides=overrides))


def test_a_baseline_has_a_folder_of_its_own():
    untuned = resolve_baseline(REQUEST)
    assert untuned.folder == PLACE / "minilm-lora" / "baseline-untuned"
    assert (untuned.config("d").baseline, untuned.config("d").seed) == ("untuned", 1)
    tfidf = resolve_baseline(dataclasses.replace(REQUEST, baseline="tfidf"))
    assert tfidf == resolve_baseline(tfidf.request)
    assert tfidf.folder == PLACE / "classical" / "baseline-tfidf"
    config = tfidf.config("d")
    assert (config.job, config.seed, config.job_name, config.baseline) == (None, None, "classical", "tfidf")


def test_a_classical_baseline_needs_a_dataset_alone():
    found = resolve_baseline(RunRequest(dataset="tweeteval-stance", baseline="majority"))
    assert found.dataset_name == "tweeteval-stance"
    with pytest.raises(ConfigError, match="DATASET=<dataset> is missing"):
        resolve_baseline(RunRequest(baseline="majority"))


def test_a_baseline_of_another_head():
    with pytest.raises(
        ConfigError, match=r"BASELINE=zero-shot: minilm-lora has head classification, .* are untuned, embedding"
    ):
        resolve_baseline(dataclasses.replace(REQUEST, baseline="zero-shot"))


def test_an_untrained_run_says_how_to_train_it(tmp_path):
    request = RunRequest("minilm-lora", seed=2, outputs=tmp_path)
    with pytest.raises(RunError, match=rf"make train MODEL=minilm-lora SEED=2 OUTPUTS={tmp_path}"):
        trained_folder(resolve_target(request))


def test_an_untrained_run_lists_the_trained_ones_of_its_job_and_dataset(tmp_path):
    target = resolve_target(RunRequest("minilm-lora", outputs=tmp_path))
    here, elsewhere = tmp_path / "stance-sample" / "minilm-lora", tmp_path / "emotion" / "minilm-lora"
    names = ("method.r=4/seed-1", "method.r=8/seed-2", "method.r=8/seed-2.replaced-20260101T000000Z", "seed-7")
    for folder in [*(here / name for name in names), elsewhere / "seed-1"]:
        (folder / "model").mkdir(parents=True)
        (folder / "training.json").write_text("{}")
    (here / "seed-7" / "model").rmdir()  # a run that is not trained yet
    with pytest.raises(RunError) as raised:
        trained_folder(target)
    listed = [line.strip() for line in str(raised.value).splitlines() if str(here / "m") in line]
    assert listed == [str(here / "method.r=4" / "seed-1"), str(here / "method.r=8" / "seed-2")]
    assert str(elsewhere) not in str(raised.value) and "seed-7" not in str(raised.value)


def adapter(folder, weights):
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


def test_an_adapter_is_known_by_name_and_content(tmp_path):
    target = resolve_target(dataclasses.replace(REQUEST, seed=None, baseline="adapter"))
    places = [("a/my run", b"1"), ("b/my run", b"1"), ("c/my run", b"2")]
    adapters = [adapter(tmp_path / path, weights) for path, weights in places]
    found = [adapter_folder(target, one, target.config("d")) for one in adapters]
    assert found[0] == found[1] != found[2]
    assert adapter_folder(target, adapters[2], target.config("other data")) not in found
    assert found[0].parent == PLACE / "minilm-lora"
    assert found[0].name.startswith("adapter-my_run-")


def test_a_missing_adapter(tmp_path):
    target = resolve_target(REQUEST)
    with pytest.raises(ModelError, match=r"ADAPTER=.*there is no such folder"):
        adapter_folder(target, tmp_path / "absent", target.config("d"))


def test_the_folder_of_few_shot_names_its_examples_and_its_seed():
    request = RunRequest("qwen3-4b-instruct-prompt", baseline="few-shot", shots=4, seed=2, outputs=Path("o"))
    target = resolve_baseline(request)
    assert target.folder == Path("o/stance-sample/qwen3-4b-instruct-prompt/baseline-few-shot-4-seed-2")
    assert target.request.command("baseline").endswith(" SEED=2 OUTPUTS=o BASELINE=few-shot SHOTS=4")
    default = resolve_baseline(dataclasses.replace(request, shots=None))
    assert default.request.shots == 3  # one for each label


@pytest.mark.parametrize("baseline", ["", "zero-shot", "majority"])
def test_shots_belong_to_few_shot(baseline):
    request = RunRequest("qwen3-4b-instruct-prompt", baseline=baseline, shots=4)
    with pytest.raises(ConfigError, match=r"SHOTS=4 has no effect without BASELINE=few-shot"):
        resolve_baseline(request)
