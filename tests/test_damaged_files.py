"""Files of a run that a disk has damaged: one message or a repair, never a traceback, never wrong numbers."""

import shutil

import pytest
from interrupted_runs import ALWAYS, Killed, check_same, complete, crash_at
from marks import slow_except

from common.core import files
from common.evaluation import inference
from common.train import trainer

GARBAGE = {"garbage": b"\x00\xff{oops", "empty": b"", "null": b"null", "list": b"[1]", "object": b"{}"}
WRONG = b'{"host": 3, "pid": "x", "done": "a", "total": [], "number": {}, "state": "no", "time": 3, "error": 5}'


def spoil(file, how: str) -> None:
    """Damage a file: cut it in half, remove it, or write something else."""
    if how == "half":
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
    elif how == "missing":
        file.unlink()
    else:
        file.write_bytes((GARBAGE | {"wrong": WRONG})[how])


# --- checkpoints ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def halfway(resumable, undisturbed_run, run_main, tmp_path_factory):
    """The folder of a run that was killed with two checkpoints: the best one until then, and a newer one."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        crash_at(patch, trainer.StepTrainer, "training_step", 20, before=True)
        run_main("train", *resumable.arguments("halfway", ALWAYS))
    folder = resumable.run_folder("halfway")
    assert complete(folder) == [16, 19]
    return folder


FILES = ("parameters.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "resume.json", "trainer_state.json")
CASES = [*((name, how) for name in (*FILES, "checksums.json") for how in ("half", "missing", "empty", "object"))]


@pytest.mark.parametrize(("name", "how"), slow_except([("optimizer.pt", "half")], CASES))
def test_the_older_whole_checkpoint_is_used(halfway, undisturbed_run, run_script, tmp_path, name, how):
    folder = tmp_path / "seed-1"
    shutil.copytree(halfway, folder)
    spoil(folder / "checkpoints" / "checkpoint-19" / name, how)
    code, out, err = run_script("train", "--run", str(folder))
    assert (code, err) == (0, "")
    assert "checkpoint-19 is damaged (" in out and name in out and "continuing from checkpoint-16 " in out
    check_same(folder, undisturbed_run)


@pytest.mark.slow
def test_a_checkpoint_of_an_older_version_is_continued(halfway, undisturbed_run, run_script, tmp_path):
    folder = tmp_path / "seed-1"
    shutil.copytree(halfway, folder)
    for checkpoint in (folder / "checkpoints").iterdir():
        (checkpoint / "checksums.json").unlink()
        resume = files.read_json(checkpoint / "resume.json")
        newer = ("has_checksums", "loss_window")
        files.write_json(checkpoint / "resume.json", {k: v for k, v in resume.items() if k not in newer})
    code, out, err = run_script("train", "--run", str(folder))
    assert (code, err) == (0, "") and "continuing from checkpoint-19 " in out and "damaged" not in out
    check_same(folder, undisturbed_run)


@pytest.mark.slow
def test_without_a_whole_checkpoint_training_begins_again(halfway, undisturbed_run, run_script, tmp_path):
    """The best one is damaged, and without it the newer one cannot choose the best at the end."""
    folder = tmp_path / "seed-1"
    shutil.copytree(halfway, folder)
    spoil(folder / "checkpoints" / "checkpoint-16" / "parameters.safetensors", "half")
    code, out, err = run_script("train", "--run", str(folder))
    assert (code, err) == (0, "")
    assert "no checkpoint is whole: training begins with the first step again" in out and "continuing" not in out
    check_same(folder, undisturbed_run)


@pytest.mark.parametrize("how", slow_except(["garbage"], GARBAGE))
def test_a_damaged_log(halfway, run_script, tmp_path, how):
    folder = tmp_path / "seed-1"
    shutil.copytree(halfway, folder)
    with (folder / "train_log.jsonl").open("ab") as stream:
        stream.write(GARBAGE[how] + b"\n")
    assert run_script("train", "--run", str(folder))[0] == 0
    steps = [entry["step"] for entry in files.read_jsonl(folder / "train_log.jsonl") if "loss" in entry]
    assert steps == list(range(1, 65))


# --- scoring --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scoring(resumable, undisturbed_run, run_main):
    """The folder of a run that was killed after its test rows were scored, and before they were written."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        crash_at(patch, inference.write_results, "write_split", 2, before=True)
        run_main("train", *resumable.arguments("scoring"))
    folder = resumable.run_folder("scoring")
    assert (folder / ".score-test.json").exists()
    return folder


@pytest.mark.parametrize("how", slow_except(["null"], [*GARBAGE, "half", "wrong"]))
def test_damaged_partial_results_are_scored_again(scoring, undisturbed_run, run_script, tmp_path, how):
    folder = tmp_path / "seed-1"
    shutil.copytree(scoring, folder)
    spoil(folder / ".score-test.json", how)
    code, out, err = run_script("train", "--run", str(folder))
    assert (code, err) == (0, "") and ".score-test.json is damaged: the rows are scored again" in out
    check_same(folder, undisturbed_run)


@pytest.mark.parametrize("how", slow_except(["garbage"], [*GARBAGE, "half"]))
def test_the_facts_of_training(scoring, run_script, tmp_path, how):
    folder = tmp_path / "seed-1"
    shutil.copytree(scoring, folder)
    spoil(folder / "training.json", how)
    code, _, err = run_script("train", "--run", str(folder))
    assert code == 5 and "training.json is damaged: " in err and "FORCE=1" in err and "Traceback" not in err


# --- a finished run -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", slow_except(["list"], ["garbage", "empty", "null", "list", "half"]))
def test_damaged_metrics_are_computed_again(trained, run_script, how):
    arguments, folder = trained
    before = files.read_json(folder / "metrics.json")
    spoil(folder / "metrics.json", how)
    outputs = arguments[arguments.index("--outputs") + 1]
    code, out, _ = run_script("status", "--outputs", outputs)
    assert code == 0 and "damaged: cannot be read: metrics.json" in out and "1 damaged" in out
    assert run_script("train", "--run", str(folder))[0] == 0
    after = files.read_json(folder / "metrics.json")
    assert {key: value for key, value in after.items() if key.startswith("test_") and not key.endswith("_s")} == {
        key: value for key, value in before.items() if key.startswith("test_") and not key.endswith("_s")
    }


MODEL = ("adapter_model.safetensors", "adapter_config.json", "peftable.json", "tokenizer.json", "tokenizer_config.json")


@pytest.mark.parametrize(
    ("name", "how"),
    slow_except(
        [("adapter_model.safetensors", "half"), ("peftable.json", "null")],
        [(name, how) for name in MODEL for how in ("half", "garbage", "null", "list", "empty")],
    ),
)
def test_a_damaged_model_is_refused(trained, run_script, name, how):
    arguments, folder = trained
    spoil(folder / "model" / name, how)
    for command in (("evaluate", *arguments), ("predict", *arguments, "--text", "a claim || a sentence")):
        code, _, err = run_script(*command)
        assert code == 4 and err.count("error: ") == 1 and str(folder / "model") in err and len(err) < 1000, err
    assert (folder / "metrics.json").exists()


@pytest.mark.parametrize("how", [*GARBAGE, "half"])
def test_a_damaged_config_is_one_message(trained, run_script, how):
    arguments, folder = trained
    spoil(folder / "config.yaml", how)
    for command in (("train", "--run", str(folder)), ("predict", "--run", str(folder), "--text", "a || b")):
        code, _, err = run_script(*command)
        assert code in (2, 5) and str(folder / "config.yaml") in err and "start again" in err, err
    assert run_script("status", "--outputs", arguments[arguments.index("--outputs") + 1])[0] == 0


# --- one damaged folder hides no other ------------------------------------------------------------------------------


NAMES = ["owner.json", "progress.json", "submit.json", "failure.json", "metrics.json"]
STATES = [
    (name, how) for name in NAMES for how in [*GARBAGE, "wrong", "half"] if (name, how) != ("metrics.json", "wrong")
]


@pytest.mark.parametrize(("name", "how"), STATES)
def test_status_shows_all_runs(trained, run_script, name, how):
    arguments, folder = trained
    other = folder.with_name("seed-2")
    shutil.copytree(folder, other)
    (other / "metrics.json").unlink()
    (other / name).write_text('{"error": "a", "time": "b"}')
    spoil(other / name, how)
    outputs = arguments[arguments.index("--outputs") + 1]
    for command in ("status", "logs", "cancel"):
        code, out, err = run_script(
            command, "--outputs", outputs, *(["--model", "minilm-lora"] if command == "cancel" else [])
        )
        assert code in (0, 5) and len(err) < 300, err
        assert command != "status" or (
            "seed-1 " in out and "seed-2 " in out and "2 runs: " in out and "1 finished" in out
        )


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("metrics.json", "null"),
        ("metrics.json", "object"),
        ("metrics-validation.json", "half"),
        ("config.yaml", "garbage"),
    ],
)
def test_the_report_shows_all_other_runs(trained, run_script, name, how):
    arguments, folder = trained
    other = folder.with_name("seed-2")
    shutil.copytree(folder, other)
    spoil(other / name, how)
    outputs = arguments[arguments.index("--outputs") + 1]
    code, out, err = run_script("collect", "--here", "--outputs", outputs)
    assert code == 6 and "Results on stance-sample" in out
    assert "1 run is left out:" in err and str(other / name) in err and len(err) < 900


def test_an_adapters_config_is_the_same_bytes_every_time(trained):
    """Peft writes sets in the order of their hashes, which differs from process to process."""
    document = files.read_json(trained[1] / "model" / "adapter_config.json")
    assert len(document["target_modules"]) > 1 and document["target_modules"] == sorted(document["target_modules"])
