"""scripts/train.py: what a run leaves, determinism, one finished run, changed configs, no secrets."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import HANG_S

from common.cli import options
from common.core import files
from common.evaluation import metrics

ROOT = Path(__file__).resolve().parents[1]
PREDICTIONS = "predictions-test.jsonl"


def only_run(outputs: Path) -> Path:
    [config] = outputs.rglob("config.yaml")
    return config.parent


def test_a_finished_run(trained):
    _, folder = trained
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert names == {
        "config.yaml",
        "train_log.jsonl",
        "model",
        "predictions-validation.jsonl",
        "predictions-test.jsonl",
        "metrics.json",
        "metrics-validation.json",
        "training.json",
        "checks.json",
        "calibration.json",
        "owner.json",
        "progress.json",
        "attempts.jsonl",
    }
    document = files.read_json(folder / "metrics.json")
    assert document["job"] == "minilm-lora" and document["seed"] == 1 and document["steps"] == 6
    assert document["params_trainable_count"] < document["params_total_count"]
    assert document["hardware"]["threads"] >= 1 and document["gpu_memory_peak_bytes"] is None
    assert document["cpu_memory_peak_bytes"] > 1e6 and document["train_s"] > 0
    records = files.read_jsonl(folder / PREDICTIONS)
    assert [record["id"] for record in records] == [f"test{number}" for number in range(12)]
    for record in records:
        assert math.fsum(map(math.exp, record["scores"].values())) == pytest.approx(1, abs=1e-5)
    again = json.loads(json.dumps(metrics.prefixed("test", metrics.compute(records, ["con", "neu", "pro"]))))
    assert {key: document[key] for key in again} == again
    validation = files.read_json(folder / "metrics-validation.json")
    best = [entry for entry in validation["history"] if entry["step"] == validation["best_step"]][-1]
    assert best["validation_loss"] == pytest.approx(validation["validation_loss"], abs=1e-9)


def test_what_is_printed(run_script, tiny_arguments):
    code, out, err = run_script("train", *tiny_arguments("training.epochs=1"))
    assert (code, err) == (0, "")
    assert "of 1," in out and "parameters train (" in out and "48 rows" in out
    assert "epoch 1.00/1: validation_f1_macro" in out and "validation (n=12)" in out and "test (n=12)" in out


def test_the_same_seed_gives_the_same_bytes_and_another_other_ones(run_script, tiny_arguments, tmp_path):
    found = {}
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        arguments = tiny_arguments("training.epochs=1", "model_config_overrides.hidden_dropout_prob=0.1", seed=seed)
        arguments[arguments.index("--outputs") + 1] = str(tmp_path / name)
        assert run_script("train", *arguments)[0] == 0
        folder = only_run(tmp_path / name)
        assert folder.name == f"seed-{seed}"
        found[name] = (folder / PREDICTIONS).read_bytes(), (folder / "predictions-validation.jsonl").read_bytes()
    assert found["one"] == found["same"]
    assert found["one"][0] != found["other"][0] and found["one"][1] != found["other"][1]


@pytest.mark.parametrize(
    ("job", "overrides"),
    [
        ("minilm-full", ("precision=bfloat16", "training.class_weights=balanced", "training.label_smoothing=0.1")),
        ("minilm-last-layers", ("method.k=1", "training.token_budget=32", "attention=eager")),
        ("minilm-full", ("method={name: adapters, size: 4}", "runtime.activation_checkpointing=true")),
        ("minilm-full", ("method={name: lora-from-scratch, dropout: 0.1}", "precision=bfloat16")),
        ("minilm-lora", ("method.use_dora=true", "method.lora_dropout=0.1", "runtime.activation_checkpointing=true")),
    ],
)
def test_every_method_trains_and_its_reloaded_model_is_proved(run_script, tiny_arguments, tmp_path, job, overrides):
    code, _, err = run_script("train", *tiny_arguments("training.epochs=1", *overrides, job=job))
    assert (code, err) == (0, "")
    assert files.read_json(only_run(tmp_path / "outputs") / "metrics.json")["test_n"] == 12


@pytest.mark.slow
def test_training_learns(run_script, tiny_arguments, tmp_path):
    """48 rows whose first word gives the label away: after some epochs the model has it."""
    words = ("training.epochs=20", "training.batch_size=4", "training.learning_rate=0.002")
    words += ("training.best_metric=validation_loss",)
    assert run_script("train", *tiny_arguments(*words, job="minilm-full"))[0] == 0
    document = files.read_json(only_run(tmp_path / "outputs") / "metrics.json")
    assert document["test_accuracy"] > 0.9
    assert document["test_loss"] < 0.5


def test_a_saved_model_that_scores_differently_is_refused(run_script, tiny_arguments, tmp_path, monkeypatch):
    from common.model import saved_model

    load = saved_model.load

    def altered(*arguments):
        head = load(*arguments)
        next(head.model.get_base_model().bert.embeddings.parameters()).data.mul_(1.5)
        return head

    monkeypatch.setattr(saved_model, "load", altered)
    code, _, err = run_script("train", *tiny_arguments("training.epochs=1"))
    assert code == 4 and "scores differently from the trained one" in err
    folder = only_run(tmp_path / "outputs")
    assert not (folder / "metrics.json").exists() and not (folder / "training.json").exists()
    assert files.read_json(folder / "failure.json")["expected"] is True
    monkeypatch.undo()


def test_a_finished_run_is_left_alone(run_script, trained):
    arguments, folder = trained
    rows = _rows_of(folder)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    code, out, _ = run_script("train", *arguments, "--data-dir", rows)
    assert code == 0 and "is finished: test (n=12)" in out
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    assert after == before


def test_a_finished_run_is_skipped_without_torch(trained):
    arguments, folder = trained
    words = [*arguments, "--data-dir", _rows_of(folder)]
    code = (
        "import runpy, sys; sys.path.insert(0, 'scripts'); sys.argv = ['train.py', *sys.argv[1:]]\n"
        "try:\n    runpy.run_path('scripts/train.py', run_name='__main__')\n"
        "except SystemExit as stop:\n    print('code', stop.code)\n"
        "print('loaded', [name for name in ('torch', 'transformers', 'peft') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=True, timeout=HANG_S
    )
    assert "is finished" in done.stdout and "code 0" in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded []"


def _rows_of(folder: Path) -> str:
    from common.runs import run_folder

    return str(run_folder.load_run_config(folder).data_dir)


# --- changed configurations ------------------------------------------------------------------------------------------


def test_changed_rows_are_refused_and_force_keeps_the_old_run(run_script, tiny_arguments, rows_dir, tmp_path):
    arguments = tiny_arguments("training.epochs=1")
    assert run_script("train", *arguments)[0] == 0
    folder = only_run(tmp_path / "outputs")
    old = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    text = (rows_dir / "train.jsonl").read_text()
    (rows_dir / "train.jsonl").write_text(text.replace("idea number 7", "notion number 7"))
    code, _, err = run_script("train", *arguments)
    assert code == 5
    assert err.startswith("error: ") and "created with another configuration" in err
    assert "data.sha256: " in err and " → " in err and "FORCE=1" in err
    assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == old

    code, out, err = run_script("train", *arguments, "--force")
    assert code == 0, err
    [aside] = [path for path in folder.parent.iterdir() if ".replaced-" in path.name]
    assert aside.name in out
    assert {path.relative_to(aside): path.read_bytes() for path in aside.rglob("*") if path.is_file()} == old
    assert (folder / "metrics.json").exists()
    assert (
        files.read_json(folder / "metrics.json")["data_sha256"] != json.loads(old[Path("metrics.json")])["data_sha256"]
    )
    assert run_script("train", *arguments)[0] == 0  # the new one is the run now


def test_a_changed_job_is_refused_with_the_difference(run_script, trained):
    """As when the job's YAML is edited after the run was made."""
    arguments, folder = trained
    rows = _rows_of(folder)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("learning_rate: 0.0005", "learning_rate: 0.5"))
    code, _, err = run_script("train", *arguments, "--data-dir", rows)
    assert code == 5 and "training.learning_rate: 0.5 → 0.0005" in err
    assert err.count("→") == 1


def test_runtime_may_change_on_a_finished_run(run_script, trained):
    arguments, folder = trained
    words = [*arguments, "--data-dir", _rows_of(folder)]
    words[words.index("training.epochs=2") + 1 : words.index("training.epochs=2") + 1] = ["runtime.log_every=3"]
    code, out, _ = run_script("train", *words)
    assert code == 0 and "is finished" in out


def test_a_failed_force_leaves_the_old_run_where_it_is(run_script, trained):
    arguments, folder = trained
    words = [*arguments, "--data-dir", _rows_of(folder), "--force"]
    position = words.index("training.epochs=2")
    # The variant is another one with another value, so break what is no part of its name: the dataset's rows.
    words[words.index("--data-dir") + 1] = str(folder / "nothing")
    code, _, _ = run_script("train", *words)
    assert code == 3 and position and (folder / "metrics.json").exists()
    assert not [path for path in folder.parent.iterdir() if ".replaced-" in path.name]


def test_checkpoints_are_kept_when_asked(run_script, tiny_arguments, tmp_path):
    assert run_script("train", *tiny_arguments("training.epochs=1", "runtime.keep_checkpoints=true"))[0] == 0
    folder = only_run(tmp_path / "outputs")
    [checkpoint] = (folder / "checkpoints").iterdir()
    assert checkpoint.name == "checkpoint-3" and (checkpoint / "parameters.safetensors").exists()


def test_no_secret_reaches_a_file(run_script, tiny_arguments, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secretvalue")
    monkeypatch.setenv("WANDB_API_KEY", "hf_secretvalue")
    arguments = tiny_arguments("training.epochs=1")
    shown = []
    for script, words in (
        ("check", arguments),
        ("train", arguments),
        ("evaluate", arguments),
        ("train", [*arguments, "--data-dir", str(tmp_path / "nowhere")]),
    ):
        shown += run_script(script, *words)[1:]
    assert "test (n=12)" in "".join(shown)
    assert "hf_secretvalue" not in "".join(shown)
    folder = only_run(tmp_path / "outputs")
    read = [path for path in (tmp_path / "outputs").rglob("*") if path.is_file()]
    assert folder / "metrics.json" in read
    assert not [path for path in read if b"hf_secretvalue" in path.read_bytes()]


def test_the_environment_is_left_as_it_was(run_script, trained):
    arguments, folder = trained
    before, directory = dict(os.environ), os.getcwd()
    run_script("train", *arguments, "--data-dir", _rows_of(folder))
    assert (dict(os.environ), os.getcwd()) == (before, directory)


def test_a_tracker_s_files_stay(run_script, tiny_arguments, tmp_path):
    code, _, err = run_script("train", *tiny_arguments("training.epochs=1", "runtime.report_to=[tensorboard]"))
    assert (code, err) == (0, "")
    [events] = only_run(tmp_path / "outputs").rglob("events.out.tfevents.*")
    assert events.stat().st_size > 1000


# --- sweeps ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def sweep_arguments(swept, tiny_arguments, run_main, monkeypatch):
    """Arguments of a sweep of two variants; their processes are calls here, so that torch is imported once."""
    job = swept("sweep: {method.r: [2, 4]}")
    monkeypatch.setattr(options, "run", lambda command: run_main(Path(command[0]).stem, *command[1:]))
    return tiny_arguments("training.epochs=1", job=job)


@pytest.mark.slow
def test_a_sweep_trains_every_variant_as_if_alone(run_script, sweep_arguments, tmp_path):
    code, out, err = run_script("train", *sweep_arguments)
    assert (code, err) == (0, "")
    assert "[1/2] method.r=2 " in out and "[2/2] method.r=4 " in out
    found = {path.parent: path.read_bytes() for path in (tmp_path / "outputs").rglob(PREDICTIONS)}
    assert len(found) == 2

    code, out, _ = run_script("train", *sweep_arguments)
    assert code == 0 and out.count("is finished") == 2

    alone = [*sweep_arguments, "--outputs", str(tmp_path / "alone")]
    alone.insert(alone.index("--set") + 1, "method.r=4")
    code, out, _ = run_script("train", *alone)
    assert code == 0 and "[1/2]" not in out
    folder = only_run(tmp_path / "alone")
    assert found[tmp_path / "outputs" / folder.relative_to(tmp_path / "alone")] == (folder / PREDICTIONS).read_bytes()


def test_a_failing_variant_keeps_none_from_training(run_script, sweep_arguments, tmp_path, swept):
    swept("sweep: [{method.target_modules: [nothing]}, {method.r: 2}]")
    code, out, err = run_script("train", *sweep_arguments)
    assert code == 4 and "'nothing'" in err and "1 of 2 variants failed" in err
    assert "make train MODEL=swept SET=" in err and "(exit code 4)" in err
    assert (only_run(tmp_path / "outputs") / "metrics.json").exists()
    assert "[2/2] method.r=2 " in out


@pytest.mark.parametrize(
    ("model", "part"),
    [
        ("nobody/no-such-model", "HF_HUB_OFFLINE is set"),
        ("distilbert/distilbert-base-uncased", "HF_HUB_OFFLINE is set"),  # its shape is known, so it can be counted
        ("package:no_such_package/model", "'no_such_package' is not installed"),
        ("./no/such/folder", "no config.json"),
        ("{}/headless", "lacks model.safetensors"),
    ],
)
def test_a_base_that_no_variant_can_have_is_said_once(
    run_script, sweep_arguments, tmp_path, tiny_model, monkeypatch, model, part
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    shutil.copytree(tiny_model, tmp_path / "headless", ignore=shutil.ignore_patterns("*.safetensors"))
    words = [f'model="{model.format(tmp_path)}"' if word.startswith("model=") else word for word in sweep_arguments]
    code, out, err = run_script("train", *words)
    assert (code, out) == (4, "") and err.count("error: ") == 1 and part in err
    assert not (tmp_path / "outputs").exists()


def test_rows_that_no_variant_can_have_are_said_once(run_script, sweep_arguments, rows_dir, tmp_path):
    (rows_dir / "test.jsonl").unlink()
    code, out, err = run_script("train", *sweep_arguments)
    assert (code, out) == (3, "") and err.count("error: ") == 1 and "test" in err
    assert not (tmp_path / "outputs").exists()


def test_variants_with_bases_of_their_own_stop_each_other_no_more_than_others(
    run_script, sweep_arguments, swept, tiny_model, tmp_path
):
    swept(f"sweep: [{{model: nobody/no-such-model}}, {{model: {json.dumps(str(tiny_model))}, method.r: 2}}]")
    place = sweep_arguments.index("--set")
    code, out, err = run_script("train", *sweep_arguments[:place], "--set", *sweep_arguments[place + 2 :])
    assert code == 4 and "1 of 2 variants failed" in err and "[2/2]" in out
    assert (only_run(tmp_path / "outputs") / "metrics.json").exists()


def test_finished_variants_need_no_base(run_script, sweep_arguments, tiny_model, tmp_path):
    moving = shutil.copytree(tiny_model, tmp_path / "moving")
    words = [f'model="{moving}"' if word.startswith("model=") else word for word in sweep_arguments]
    one = [*words, "--set", "method.r=4"]
    assert run_script("train", *one)[0] == 0
    (moving / "model.safetensors").rename(tmp_path / "elsewhere")
    code, out, err = run_script("train", *words)
    assert (code, out) == (4, "") and err.count("error: ") == 1  # the other one still does
    (tmp_path / "elsewhere").rename(moving / "model.safetensors")
    assert run_script("train", *words)[0] == 0
    (moving / "model.safetensors").unlink()
    code, out, _ = run_script("train", *words)
    assert code == 0 and out.count("is finished") == 2


@pytest.mark.slow
def test_the_variants_of_a_sweep_are_evaluated_and_predict_needs_one(run_script, sweep_arguments, tmp_path):
    code, _, err = run_script("evaluate", *sweep_arguments)
    assert code == 5 and "none of the 2 variants is trained. Train them first: make train MODEL=swept" in err
    one = list(sweep_arguments)
    one.insert(one.index("--set") + 1, "method.r=4")
    assert run_script("train", *one)[0] == 0
    code, out, err = run_script("evaluate", *sweep_arguments, "--split", "train")
    assert (code, err) == (0, "")
    assert "not trained yet: method.r=2" in out and "[1/1] method.r=4" in out and "train (n=48)" in out
    assert run_script("train", *sweep_arguments)[0] == 0
    code, out, err = run_script("evaluate", *sweep_arguments, "--split", "train")
    assert (code, err) == (0, "") and out.count("train (n=48)") == 2
    assert len(list((tmp_path / "outputs").rglob("metrics-train.json"))) == 2

    data_dir = sweep_arguments.index("--data-dir")
    words = [*sweep_arguments[:data_dir], *sweep_arguments[data_dir + 2 :], "--text", "A claim. || A sentence."]
    code, out, err = run_script("predict", *words)
    assert code == 2 and out == "" and "is a sweep of 2 variants" in err and "SET='method.r=2 " in err
    words.insert(words.index("--set") + 1, "method.r=2")
    assert run_script("predict", *words)[0] == 0


def test_the_baseline_of_a_sweep_is_one(run_script, sweep_arguments, tmp_path):
    assert run_script("baseline", *sweep_arguments)[0] == 0
    assert only_run(tmp_path / "outputs").name == "baseline-untuned"
