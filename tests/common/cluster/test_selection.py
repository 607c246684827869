"""Which runs a request means."""

import dataclasses
from pathlib import Path

import pytest

from common.cli import folds
from common.cluster import selection
from common.config import catalog
from common.config.run_request import RunRequest
from common.core.errors import ConfigError, DataError

REQUEST = RunRequest("minilm-lora", outputs=Path("outputs"))
EVERY_JOB = dataclasses.replace(REQUEST, model=None)


def shown(members):
    return [f"{one.verb} {'/'.join(one.folder.parts[1:])}" for one in members]


def test_a_run_a_seed():
    found = selection.runs_of_job(REQUEST, (1, 3))
    assert shown(found) == ["train stance-sample/minilm-lora/seed-1", "train stance-sample/minilm-lora/seed-3"]
    assert [one.command for one in found] == [
        "make train MODEL=minilm-lora OUTPUTS=outputs",
        "make train MODEL=minilm-lora SEED=3 OUTPUTS=outputs",
    ]
    assert [one.configure("d" * 64).seed for one in found] == [1, 3]


def test_variants_of_a_sweep_and_seeds():
    found = selection.runs_of_job(dataclasses.replace(REQUEST, model="minilm-emotion-lora"), (1, 2))
    assert len(found) == len({one.folder for one in found}) == 2 * len(catalog.load_sweep("minilm-emotion-lora"))
    assert {one.configure("d" * 64).seed for one in found} == {1, 2}
    one = selection.runs_of_job(dataclasses.replace(REQUEST, overrides=("method.r=4",)))[0]
    assert one.folder == Path("outputs/stance-sample/minilm-lora/method.r=4/seed-1")


@pytest.mark.parametrize(
    ("model", "baseline", "folder", "has_job"),
    [
        ("minilm-lora", "tfidf", "stance-sample/classical/baseline-tfidf", False),
        ("minilm-lora", "untuned", "stance-sample/minilm-lora/baseline-untuned", True),
        ("gemma-2-9b-it", "zero-shot", "stance-sample/gemma-2-9b-it/baseline-zero-shot", True),
    ],
)
def test_a_baseline_is_that_of_baseline_py(model, baseline, folder, has_job):
    data = catalog.load_job(model)[0].dataset
    [one] = selection.runs_of_job(dataclasses.replace(REQUEST, model=model, baseline=baseline), (1, 2))
    assert shown([one]) == [f"baseline {folder.replace('stance-sample', data)}"]
    assert (one.job is not None) == has_job and one.configure("d" * 64).baseline == baseline
    assert one.command.endswith(f"BASELINE={baseline}")


def test_all_jobs_share_a_sample_of_train_rows_with_the_classical_baselines():
    request = dataclasses.replace(EVERY_JOB, overrides=("training.epochs=2", "training.max_train_samples=30"))
    found, skipped = selection.runs_of_all_jobs(request, "minilm-lora")
    assert skipped == []
    sample = "training.max_train_samples=30"
    assert f"baseline stance-sample/classical/{sample}/baseline-tfidf" in shown(found)
    [tfidf] = [one for one in found if one.folder.name == "baseline-tfidf"]
    assert tfidf.configure("d" * 64).max_train_samples == 30
    assert sample in tfidf.command and "epochs" not in tfidf.command


def test_the_classical_baselines_are_of_the_dataset_that_set_names():
    request = dataclasses.replace(EVERY_JOB, overrides=("dataset=imdb",))
    found, _ = selection.runs_of_all_jobs(request, "minilm-lora")
    assert {one.folder.parts[1] for one in found} == {"imdb"}


def test_a_named_classical_baseline_refuses_settings_of_a_model():
    request = dataclasses.replace(REQUEST, baseline="tfidf", overrides=("method.r=4",))
    with pytest.raises(ConfigError, match=r"method\.r.*max_train_samples"):
        selection.runs_of_job(request)


def test_another_head_s_baseline():
    with pytest.raises(
        ConfigError, match=r"BASELINE=untuned: gemma-2-9b-it has head prompt, whose baselines are zero-shot, f"
    ):
        selection.runs_of_job(dataclasses.replace(REQUEST, model="gemma-2-9b-it", baseline="untuned"))


def test_every_job_of_the_project():
    found, skipped = selection.runs_of_all_jobs(EVERY_JOB)
    assert skipped == []
    assert len(found) == len({one.folder for one in found})
    trained = {one.folder.parts[2] for one in found if one.verb == "train"}
    assert trained == set(catalog.names(catalog.JOBS))
    verbs = [one.verb for one in found]
    assert verbs == sorted(verbs)  # baselines first
    datasets = {one.dataset_name for one in found}
    assert sum(one.job is None for one in found) == 2 * len(datasets)  # one of each kind per dataset


def test_patterns_of_jobs():
    found, _ = selection.runs_of_all_jobs(EVERY_JOB, "minilm-l*, gemma-*")
    assert {one.folder.parts[2] for one in found} - {"classical"} == {
        name for name in catalog.names(catalog.JOBS) if name.startswith(("minilm-l", "gemma-"))
    }
    with pytest.raises(ConfigError, match=r"JOBS=mnilm-\*: no job of that name. Available:"):
        selection.runs_of_all_jobs(EVERY_JOB, "minilm-* mnilm-*")


def test_rows_are_read_once(monkeypatch):
    loaded = []
    real = selection.load_rows
    monkeypatch.setattr(selection, "load_rows", lambda *given: loaded.append(given) or real(*given))
    fingerprints = selection.Fingerprints()
    members = selection.runs_of_job(REQUEST, (1, 2, 3))
    assert len({fingerprints.of(one) for one in members}) == 1 and len(loaded) == 1
    [missing] = selection.runs_of_job(dataclasses.replace(REQUEST, dataset="perspectrum"))
    for _ in range(2):
        with pytest.raises(DataError):
            fingerprints.of(missing)
    assert len(loaded) == 2


def test_groups_are_counted_once_for_all_jobs(monkeypatch):
    read, real = [], folds.load_rows
    monkeypatch.setattr(folds, "load_rows", lambda *given: read.append(given) or real(*given))
    request = dataclasses.replace(EVERY_JOB, dataset="stance-sample-by-claim")
    found, skipped = selection.runs_of_all_jobs(request, "minilm-lora smollm2-135m-prompt", folds="1,2")
    assert skipped == [] and len(read) == 1
    assert len({selection.rows_of(spec) for spec in found}) == 2


def test_rows_of_ablations_are_not_those_of_the_pair():
    known = selection.Fingerprints()
    kinds = ("none", "first-text", "second-text", "shuffled-first")
    configs = {}
    for kind in kinds:
        [spec] = selection.runs_of_job(dataclasses.replace(REQUEST, overrides=(f"ablation={kind}",)))
        configs[kind] = known.config(spec)
    assert len({config.data_sha256 for config in configs.values()}) == 4
    assert [list(configs[kind].dataset.text) for kind in kinds[:3]] == [["claim", "sentence"], ["claim"], ["sentence"]]
    assert configs["shuffled-first"].dataset.splits.shuffled
