"""Killed runs: whatever the moment, the same command finishes them with the bytes of an undisturbed run.

Processes are stopped (SIGSTOP) before they are killed, so that the moment is known and not a matter of luck.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_causal

from common.core import files
from common.evaluation import inference
from common.train import callbacks, trainer

ROOT = Path(__file__).resolve().parents[1]
LOSES_NOTHING = ("predictions-test.jsonl", "predictions-validation.jsonl", "train_log.jsonl")
# Dropout, so that a resumed run must also continue the random numbers; 16 steps an epoch.
RECIPE = {
    "training.epochs": "4",
    "training.batch_size": "3",
    "training.learning_rate": "0.003",
    "model_config_overrides.hidden_dropout_prob": "0.2",
    "runtime.log_every": "1",
}
OFTEN = "runtime.checkpoint_minutes=0.001"  # several times an epoch
ALWAYS = "runtime.checkpoint_minutes=0.0000001"  # after every step
STEPS_PER_EPOCH = 16


class Killed(BaseException):
    """Stands for a kill at an exact line; no handler of ours may catch it."""


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_model):
    """Rows, and the arguments of a run in a folder of its own: 48 train, 12 validation, 240 test rows."""
    folder = tmp_path_factory.mktemp("kill")
    rows = folder / "some rows"
    rows.mkdir()
    words = {"con": "bad harmful wrong", "neu": "maybe unclear open", "pro": "good useful right"}
    for split, count in (("train", 48), ("validation", 12), ("test", 240)):
        records = []
        for number in range(count):
            label = sorted(words)[number % 3]
            sentence = f"{words[label].split()[number % 2]} idea {number} " + "really " * (number % 7)
            claim = f"Claim {number % 2}."
            records.append({"id": f"{split}{number}", "claim": claim, "sentence": sentence, "stance": label})
        files.write_jsonl(rows / f"{split}.jsonl", records)

    def arguments(outputs: str, *overrides: str, job: str = "minilm-lora") -> list[str]:
        recipe = RECIPE | dict(word.split("=", 1) for word in overrides)
        words = ["--model", job, "--set", f'model="{tiny_model}"', *(f"{key}={recipe[key]}" for key in recipe)]
        return [*words, "--data-dir", str(rows), "--outputs", str(folder / outputs)]

    return folder, arguments


@pytest.fixture(scope="module")
def undisturbed(place, run_main) -> Path:
    """The finished run that every other one must equal."""
    _, arguments = place
    assert run_main("train", *arguments("undisturbed")) == 0
    return folder_of(place, "undisturbed")


def folder_of(place, outputs: str) -> Path:
    [config] = (place[0] / outputs).rglob("config.yaml")
    return config.parent


def same(one: Path, other: Path) -> None:
    """Both runs are finished and equal in all that training and scoring wrote."""
    for name in LOSES_NOTHING[:2]:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    first, second = (files.read_json(folder / "training.json") for folder in (one, other))
    for key in ("steps", "best_step", "train_truncated_count", "params_trainable_count"):
        assert first[key] == second[key], key
    scores = [{k: v for k, v in entry.items() if k != "loss"} for entry in first["history"]]
    assert scores == [{k: v for k, v in entry.items() if k != "loss"} for entry in second["history"]]
    metrics = [files.read_json(folder / "metrics.json") for folder in (one, other)]
    keys = [key for key in metrics[0] if key.startswith("test_") and key not in ("test_s", "test_examples_per_s")]
    assert len(keys) > 5 and all(metrics[0][key] == metrics[1][key] for key in keys)
    for folder in (one, other):
        assert not (folder / "failure.json").exists()
        assert not (folder / "checkpoints").exists()
        steps = [entry["step"] for entry in files.read_jsonl(folder / "train_log.jsonl") if "loss" in entry]
        assert steps == list(range(1, first["steps"] + 1))  # nothing twice, nothing missing


class Process:
    """A real `python scripts/train.py`, stopped at the moment a condition holds."""

    def __init__(self, place, outputs: str, arguments: list[str], **environment: str) -> None:
        self.outputs = place[0] / outputs
        self.child = subprocess.Popen(
            [sys.executable, "scripts/train.py", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | environment,
            start_new_session=True,  # a group of its own, to be signalled as a whole
        )

    def stop_when(self, condition) -> Path:
        """Wait until `condition(run folder)` holds, leave the process stopped there, and return the run folder."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self.child.poll() is None, self.child.communicate()
            folder = next(self.outputs.rglob("config.yaml"), None)
            if folder is not None and condition(folder.parent):
                self.child.send_signal(signal.SIGSTOP)
                _wait_until_stopped(self.child.pid)
                if condition(folder.parent):
                    return folder.parent
                self.child.send_signal(signal.SIGCONT)
            time.sleep(0.0005 if folder else 0.02)
        self.child.kill()
        raise AssertionError("the moment never came")

    def kill(self) -> None:
        self.child.kill()
        self.child.communicate()
        assert self.child.returncode == -signal.SIGKILL

    def end(self) -> tuple[int, str, str]:
        """Let a stopped process go on to its end."""
        self.child.send_signal(signal.SIGCONT)
        out, err = self.child.communicate(timeout=60)
        return self.child.returncode, out, err


def _wait_until_stopped(pid: int) -> None:
    while Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "TZ":
        time.sleep(0.0002)


def complete(folder: Path) -> list[int]:
    return [step for step, _ in trainer.checkpoints(folder / "checkpoints")]


def partial(folder: Path) -> bool:
    return any((folder / "checkpoints").glob(".checkpoint-*.partial"))


MOMENTS = {
    "before-the-first-checkpoint": (
        (),
        lambda folder: bool(_losses(folder)) and not complete(folder) and not partial(folder),
    ),
    "while-a-checkpoint-is-written": (
        (OFTEN,),
        lambda folder: len(complete(folder)) > 1 and partial(folder),
    ),
    "while-evaluating": ((), lambda folder: (folder / "training.json").exists()),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_started_again(place, undisturbed, run_main, moment):
    overrides, condition = MOMENTS[moment]
    arguments = place[1](moment, *overrides)
    process = Process(place, moment, arguments)
    folder = process.stop_when(condition)
    process.kill()
    assert not (folder / "metrics.json").exists()
    assert condition(folder)
    assert not (folder / "failure.json").exists()  # a SIGKILL leaves no time to write one
    assert run_main("train", *arguments) == 0
    same(folder, undisturbed)


def test_killed_in_the_middle_of_an_epoch_and_finished_by_another_process(place, undisturbed):
    arguments = place[1]("middle", OFTEN)
    process = Process(place, "middle", arguments)
    folder = process.stop_when(
        lambda folder: complete(folder)[-1:] > [STEPS_PER_EPOCH] and complete(folder)[-1] % STEPS_PER_EPOCH
    )
    reached = complete(folder)[-1]
    process.kill()
    process = Process(place, "middle", arguments)
    out, err = process.child.communicate(timeout=90)
    assert process.child.returncode == 0, err
    assert f"continuing from checkpoint-{reached}" in out
    same(folder, undisturbed)
    assert files.read_json(folder / "owner.json")["attempt"] == 2


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_saves_and_says_how_to_continue(place, undisturbed, run_main, name):
    process = Process(place, name, place[1](name))
    folder = process.stop_when(lambda folder: len(_losses(folder)) > STEPS_PER_EPOCH + 3)
    assert complete(folder) == [STEPS_PER_EPOCH]
    process.child.send_signal(getattr(signal, name))
    code, _, err = process.end()
    assert code == 75
    assert err.startswith(f"error: {name} at step ") and err.count("error:") == 1 and "Traceback" not in err
    assert "the same command continues" in err
    assert complete(folder)[-1] >= STEPS_PER_EPOCH + 4
    assert not partial(folder) and not (folder / "metrics.json").exists()
    failure = files.read_json(folder / "failure.json")
    assert failure["interrupted"] is True and failure["error"].startswith(f"Interrupted: {name} at step")
    assert files.read_json(folder / "owner.json")["released"]
    # The command is taken at its word, quotes and spaces included.
    program, target, *words = shlex.split(failure["continue_with"])
    assert (program, target) == ("make", "train")
    given = dict(word.split("=", 1) for word in words)
    again = []
    for variable, value in given.items():
        again += [f"--{variable.lower().replace('_', '-')}", value]
    assert run_main("train", *again) == 0
    same(folder, undisturbed)


def _losses(folder: Path) -> list[dict]:
    log = folder / "train_log.jsonl"
    return [entry for entry in files.read_jsonl(log) if "loss" in entry] if log.exists() else []


def test_a_second_process_is_refused_and_the_first_unharmed(place, undisturbed, run_main, capsys):
    arguments = place[1]("two")
    process = Process(place, "two", arguments)
    folder = process.stop_when(lambda folder: len(_losses(folder)) > 2)
    before = (folder / "owner.json").read_bytes()
    capsys.readouterr()
    assert run_main("train", *arguments) == 5
    message = capsys.readouterr().err
    assert message.startswith("error: ") and f"process {process.child.pid} on " in message
    assert run_main("train", *arguments, "--force") == 5  # force is no way around it
    assert (folder / "owner.json").read_bytes() == before
    assert not (folder / "failure.json").exists()
    code, _, err = process.end()
    assert code == 0, err
    same(folder, undisturbed)


# --- exact moments, in this process ----------------------------------------------------------------------------------


def crash_at(monkeypatch, target, name: str, count: int, before: bool = False) -> None:
    """Make the count-th call of a function end in `Killed`, before or after it did its work."""
    original = getattr(target, name)
    calls = []

    def wrapper(*arguments, **options):
        calls.append(name)
        if before and len(calls) == count:
            raise Killed
        result = original(*arguments, **options)
        if len(calls) == count:
            raise Killed
        return result

    monkeypatch.setattr(target, name, wrapper)


def crash_and_resume(place, run_main, monkeypatch, outputs: str, overrides, target, name: str, count: int, **how):
    arguments = place[1](outputs, *overrides)
    with monkeypatch.context() as patch:
        crash_at(patch, target, name, count, **how)
        with pytest.raises(Killed):
            run_main("train", *arguments)
    assert run_main("train", *arguments) == 0
    return folder_of(place, outputs)


# Evaluations get worse soon with so high a rate: training stops early, after the best checkpoint.
STOPS_EARLY = ("training.learning_rate=0.05", "training.early_stopping_patience=2", "training.epochs=12")
PLATEAU = (
    "training.lr_scheduler_type=reduce_lr_on_plateau",
    "training.lr_scheduler_kwargs={patience: 0, factor: 0.5, threshold: 0.01}",
    "training.best_metric=validation_loss",
)
VARIANTS = {
    "early-stopping": STOPS_EARLY,
    "plateau": PLATEAU,
    "by-steps": ("training.eval_every=7", "training.epochs=2"),
    "half-an-epoch": ("training.epochs=1.5",),
}


@pytest.fixture(scope="module")
def references(place, run_main):
    """Undisturbed runs of the variants, made when first asked for."""
    made = {}

    def reference(name: str) -> Path:
        if name not in made:
            outputs = f"reference-{name}"
            assert run_main("train", *place[1](outputs, *VARIANTS[name])) == 0
            made[name] = folder_of(place, outputs)
        return made[name]

    return reference


@pytest.mark.parametrize("behind", [0, 1])
def test_early_stopping_after_the_last_checkpoint(place, references, run_main, monkeypatch, behind):
    reference = references("early-stopping")
    facts = files.read_json(reference / "training.json")
    evaluations = facts["steps"] // STEPS_PER_EPOCH
    assert evaluations < 12 and facts["best_step"] == facts["steps"] - 2 * STEPS_PER_EPOCH
    outputs = f"early-{behind}"
    folder = crash_and_resume(
        place,
        run_main,
        monkeypatch,
        outputs,
        VARIANTS["early-stopping"],
        trainer.StepTrainer,
        "_save_checkpoint",
        evaluations - behind,
    )
    same(folder, reference)


@pytest.mark.parametrize("save", [2, 4])
def test_plateau_scheduler(place, references, run_main, monkeypatch, save):
    reference = references("plateau")
    rates = {entry["learning_rate"] for entry in _losses(reference)}
    assert len(rates) > 1  # the scheduler did act, so its state matters
    outputs = f"plateau-{save}"
    target = trainer.StepTrainer
    folder = crash_and_resume(place, run_main, monkeypatch, outputs, PLATEAU, target, "_save_checkpoint", save)
    same(folder, reference)
    assert [e["learning_rate"] for e in _losses(folder)] == [e["learning_rate"] for e in _losses(reference)]


@pytest.mark.parametrize("save", [3])
def test_evaluation_by_steps(place, references, run_main, monkeypatch, save):
    reference = references("by-steps")
    log = files.read_jsonl(reference / "train_log.jsonl")
    assert [entry["step"] for entry in log if "validation_loss" in entry] == [7, 14, 21, 28, 32]
    outputs = f"by-steps-{save}"
    target = trainer.StepTrainer
    folder = crash_and_resume(
        place, run_main, monkeypatch, outputs, VARIANTS["by-steps"], target, "_save_checkpoint", save
    )
    same(folder, reference)


@pytest.mark.parametrize("step", [16, 24])
def test_killed_at_a_step_with_checkpoints_at_every_step(place, references, run_main, monkeypatch, step):
    """Around the end of an epoch, and at the last step of training that ends within an epoch."""
    folder = crash_and_resume(
        place,
        run_main,
        monkeypatch,
        f"half-{step}",
        (*VARIANTS["half-an-epoch"], ALWAYS),
        callbacks.RunCallback,
        "on_save",
        step,
    )
    same(folder, references("half-an-epoch"))


@pytest.mark.parametrize(
    ("target", "name", "count"),
    [
        (inference, "score", 2),  # in the second evaluation of training
        (trainer.StepTrainer, "load_best", 1),  # after training, before the model is saved
        (inference, "score", 5),  # while the saved model is proved
    ],
    ids=["in-an-evaluation", "before-saving", "while-proving"],
)
def test_killed_around_the_end_of_training(place, undisturbed, run_main, monkeypatch, target, name, count):
    outputs = f"end-{name}-{count}"
    folder = crash_and_resume(place, run_main, monkeypatch, outputs, (), target, name, count, before=True)
    same(folder, undisturbed)


NF4 = {"quantization": "nf4", "training__epochs": 2, "training__batch_size": 6, "training__learning_rate": 0.01}


@pytest.mark.parametrize("save", [1, 2])
def test_a_quantised_prompt_job(place, run_main, tiny_causal_model, monkeypatch, save):
    """Resumed with the bytes of an undisturbed run, evaluations and answers of several tokens between the steps."""
    folder, arguments = place
    recipe = NF4 | {"method__lora_dropout": 0.1, "runtime__log_every": 1}
    settings = tiny_causal.words("qwen", tiny_causal_model("qwen"), **recipe)

    def words(outputs: str) -> list[str]:
        plain = arguments(outputs)
        return ["--model", "minilm-lora", "--set", *settings, *plain[plain.index("--data-dir") :]]

    if not (folder / "nf4").exists():
        assert run_main("train", *words("nf4")) == 0
    outputs = f"nf4-{save}"
    with monkeypatch.context() as patch:
        crash_at(patch, trainer.StepTrainer, "_save_checkpoint", save)
        with pytest.raises(Killed):
            run_main("train", *words(outputs))
    assert run_main("train", *words(outputs)) == 0
    reference, resumed = folder_of(place, "nf4"), folder_of(place, outputs)
    same(resumed, reference)
    weights = "model/adapter_model.safetensors"
    assert (resumed / weights).read_bytes() == (reference / weights).read_bytes()


def test_runtime_may_change_between_two_starts(place, undisturbed, run_main, monkeypatch):
    with monkeypatch.context() as patch:
        crash_at(patch, trainer.StepTrainer, "_save_checkpoint", 2)
        with pytest.raises(Killed):
            run_main("train", *place[1]("runtime"))
    assert run_main("train", *place[1]("runtime", "runtime.keep_checkpoints=true")) == 0
    kept = folder_of(place, "runtime") / "checkpoints"
    assert list(kept.glob("checkpoint-*"))  # as asked for today, not as frozen
    shutil.rmtree(kept)
    same(folder_of(place, "runtime"), undisturbed)


def test_no_signal_handler_is_left_behind(place, undisturbed):
    assert signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_IGN)
    assert json.loads((undisturbed / "owner.json").read_text())["released"]
