"""Run folders: their paths, the recorded config, archiving, and what a finished run is."""

import dataclasses
import sys
from pathlib import Path

import pytest
from toy_runs import run_config

from common.core import yaml_io
from common.core.errors import ConfigError, RunError
from common.runs import run_folder
from common.runs.run_config import differences


def test_folder():
    assert run_folder.folder(Path("o"), "toy", "lora", "", "seed-1") == Path("o/toy/lora/seed-1")
    assert run_folder.folder(Path("o"), "toy", "lora", "method.r=4", "seed-1") == Path("o/toy/lora/method.r=4/seed-1")


# --- the recorded config ---------------------------------------------------------------------------------------------


def test_a_created_run_loads_its_config(tmp_path):
    config = run_config(
        overrides={"training.learning_rate": 2e-5, "method.r": 4},
        data_dir="/data/mine",
        labels=["no", "01", 3],
        text=["a"],
        mean_f1_labels=["no"],
        splits={"fractions": {"validation": 0.1}},
    )
    run_folder.create_run(tmp_path, config, "make train")
    assert run_folder.load_run_config(tmp_path) == config
    assert yaml_io.read(tmp_path / run_folder.CONFIG)["schema"] == 1


def test_labels_that_are_not_known_yet_are_the_recorded_ones(tmp_path):
    unread = run_config(labels="all")
    assert differences(run_config(), unread) == []
    with pytest.raises(ConfigError, match="`labels: all`"):
        run_folder.create_run(tmp_path / "new", unread, "make train")
    assert not (tmp_path / "new").exists()


def test_dropped_rows_are_recorded(tmp_path):
    config = dataclasses.replace(run_config(drop_labels=["unsure", None]), dropped_rows_count={"train": 3})
    run_folder.create_run(tmp_path, config, "make train")
    assert run_folder.load_run_config(tmp_path) == config


def test_the_seed_of_a_sample_counts_where_there_is_one():
    sampled = {"training.max_train_samples": 10}
    for overrides, differs in (({}, False), (sampled, True)):
        one, other = (run_config(overrides=overrides, splits={"seed": seed}) for seed in (1, 2))
        assert bool(differences(one, other)) is differs


def test_creating_the_same_run_again_changes_nothing(tmp_path):
    run_folder.create_run(tmp_path, run_config(), "make train")
    before = (tmp_path / run_folder.CONFIG).read_bytes()
    run_folder.create_run(tmp_path, run_config(), "make train")
    assert (tmp_path / run_folder.CONFIG).read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"overrides": {"training.epochs": 2}}, "training.epochs: 8.0 → 2.0"),
        ({"overrides": {"method.r": 4}}, "method.r: 16 → 4"),
        ({"overrides": {"method": {"name": "full"}}}, "method.r: 16 → absent"),
        ({"data_sha256": "e" * 64}, f"data.sha256: {'d' * 64} → {'e' * 64}"),
        ({"labels": ["pro", "con"]}, "labels: ['con', 'pro'] → ['pro', 'con']"),
        ({"seed": 2}, "seed: 1 → 2"),
    ],
)
def test_a_changed_config_is_refused_and_shown(tmp_path, changes, line):
    run_folder.create_run(tmp_path, run_config(), "make train MODEL=minilm-lora")
    with pytest.raises(RunError) as raised:
        run_folder.create_run(tmp_path, run_config(**changes), "make train MODEL=minilm-lora")
    assert line in str(raised.value)
    assert "make train MODEL=minilm-lora FORCE=1" in str(raised.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"overrides": {"runtime.log_every": 3, "runtime.report_to": ["tensorboard"]}},
        {"data_dir": "/elsewhere"},
        {"title": "Another title"},
        {"source": {"files": {"train": "copy.csv"}}},
    ],
)
def test_what_changes_no_result_may_change(tmp_path, changes):
    run_folder.create_run(tmp_path, run_config(), "make train")
    run_folder.create_run(tmp_path, run_config(**changes), "make train")


def test_an_older_config_takes_new_defaults(tmp_path):
    run_folder.create_run(tmp_path, run_config(), "make train")
    document = yaml_io.read(tmp_path / run_folder.CONFIG)
    del document["job"]["runtime"]["log_every"], document["job"]["training"]["label_smoothing"]
    (tmp_path / run_folder.CONFIG).write_text(yaml_io.dump(document))
    assert run_folder.load_run_config(tmp_path) == run_config()


def test_loading_a_damaged_config(tmp_path):
    with pytest.raises(RunError, match="there is no run here"):
        run_folder.load_run_config(tmp_path)
    (tmp_path / run_folder.CONFIG).write_text("job: {}\n")
    with pytest.raises(RunError, match="'run' is missing"):
        run_folder.load_run_config(tmp_path)


def test_loading_checks_the_schema(tmp_path):
    run_folder.create_run(tmp_path, run_config(), "make train")
    text = (tmp_path / run_folder.CONFIG).read_text().replace("epochs: 8", "epochs: -8")
    (tmp_path / run_folder.CONFIG).write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml: 'training\.epochs' is -8"):
        run_folder.load_run_config(tmp_path)


def test_archiving_keeps_the_old_run(tmp_path):
    run = tmp_path / "seed-1"
    assert run_folder.archive_run(run) is None
    asides = []
    for number in range(3):  # more than once within a second, too
        run_folder.create_run(run, run_config(seed=number), "make train")
        asides.append(run_folder.archive_run(run))
        assert not run.exists()
    assert [run_folder.load_run_config(aside).seed for aside in asides] == [0, 1, 2]
    assert all(".replaced-" in aside.name for aside in asides)


def test_a_run_without_a_model(tmp_path):
    with pytest.raises(RunError, match=r"there is no such run.*make train MODEL=x"):
        run_folder.check_trained(tmp_path, "make train MODEL=x")
    run_folder.create_run(tmp_path, run_config(), "make train")
    with pytest.raises(RunError, match="the run is not finished"):
        run_folder.check_trained(tmp_path, "make train MODEL=x")
    (tmp_path / run_folder.MODEL).mkdir()
    with pytest.raises(RunError, match="the run is not finished"):
        run_folder.check_trained(tmp_path, "make train MODEL=x")
    (tmp_path / run_folder.TRAINING).write_text("{}")
    run_folder.check_trained(tmp_path, "make train MODEL=x")


def test_a_config_is_compared_without_its_rows(tmp_path):
    run_folder.create_run(tmp_path, run_config(), "make train")
    assert run_folder.load_matching_config(tmp_path, run_config(data_sha256="")) == run_config()
    with pytest.raises(RunError, match=r"method\.r: 16 → 4\n.*RUN="):
        run_folder.load_matching_config(tmp_path, run_config(overrides={"method.r": 4}))


def test_a_run_is_finished_when_its_metrics_exist(tmp_path):
    assert not run_folder.is_finished(tmp_path)
    (tmp_path / run_folder.METRICS).write_text('{"schema": 1}')
    assert run_folder.is_finished(tmp_path)


def test_headline():
    document = {"score": "test_f1_macro", "test_n": 4, "test_accuracy": 0.75, "test_f1_macro": 0.7333}
    assert run_folder.headline(document, "test") == "test (n=4): f1_macro 0.7333, accuracy 0.7500"


def test_this_command_can_be_pasted(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scripts/train.py", "--set", "model='a b'"])
    assert run_folder.this_command() == """python scripts/train.py --set 'model='"'"'a b'"'"''"""
