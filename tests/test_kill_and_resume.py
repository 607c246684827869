"""Killed runs: whatever the moment, the same command finishes them with the bytes of an undisturbed run.

Processes are stopped (SIGSTOP) before they are killed, so that the moment is known and not a matter of luck.
"""

import json
import shlex
import shutil
import signal
from pathlib import Path

import pytest
import tiny_causal
from interrupted_runs import (
    ALWAYS,
    OFTEN,
    PLATEAU,
    STEPS_PER_EPOCH,
    STOPS_EARLY,
    Killed,
    Process,
    check_same,
    complete,
    crash_at,
    losses,
    partial,
)

from common.core import files
from common.evaluation import inference
from common.train import callbacks, trainer

MOMENTS = {
    "before-the-first-checkpoint": (
        (),
        lambda folder: bool(losses(folder)) and not complete(folder) and not partial(folder),
    ),
    "while-a-checkpoint-is-written": (
        (OFTEN,),
        lambda folder: len(complete(folder)) > 1 and partial(folder),
    ),
    "while-evaluating": ((), lambda folder: (folder / "training.json").exists()),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_started_again(resumable, undisturbed_run, run_main, moment):
    overrides, condition = MOMENTS[moment]
    arguments = resumable.arguments(moment, *overrides)
    process = Process(resumable.folder / moment, arguments)
    folder = process.stop_when(condition)
    process.kill()
    assert not (folder / "metrics.json").exists()
    assert condition(folder)
    assert not (folder / "failure.json").exists()  # a SIGKILL leaves no time to write one
    assert run_main("train", *arguments) == 0
    check_same(folder, undisturbed_run)


@pytest.mark.slow
def test_killed_in_the_middle_of_an_epoch_and_finished_by_another_process(resumable, undisturbed_run):
    arguments = resumable.arguments("middle", OFTEN)
    process = Process(resumable.folder / "middle", arguments)
    folder = process.stop_when(
        lambda folder: complete(folder)[-1:] > [STEPS_PER_EPOCH] and complete(folder)[-1] % STEPS_PER_EPOCH
    )
    reached = complete(folder)[-1]
    process.kill()
    process = Process(resumable.folder / "middle", arguments)
    code, out, err = process.end()
    assert code == 0, err
    assert f"continuing from checkpoint-{reached}" in out
    check_same(folder, undisturbed_run)
    assert files.read_json(folder / "owner.json")["attempt"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_saves_and_says_how_to_continue(resumable, undisturbed_run, run_main, name):
    process = Process(resumable.folder / name, resumable.arguments(name))
    folder = process.stop_when(lambda folder: len(losses(folder)) > STEPS_PER_EPOCH + 3)
    assert complete(folder) == [STEPS_PER_EPOCH]
    process.send_signal(getattr(signal, name))
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
    check_same(folder, undisturbed_run)


@pytest.mark.slow
def test_a_second_process_is_refused_and_the_first_unharmed(resumable, undisturbed_run, run_main, capsys):
    arguments = resumable.arguments("two")
    process = Process(resumable.folder / "two", arguments)
    folder = process.stop_when(lambda folder: len(losses(folder)) > 2)
    before = (folder / "owner.json").read_bytes()
    capsys.readouterr()
    assert run_main("train", *arguments) == 5
    message = capsys.readouterr().err
    assert message.startswith("error: ") and f"process {process.pid} on " in message
    assert run_main("train", *arguments, "--force") == 5  # force is no way around it
    assert (folder / "owner.json").read_bytes() == before
    assert not (folder / "failure.json").exists()
    code, _, err = process.end()
    assert code == 0, err
    check_same(folder, undisturbed_run)


# --- exact moments, in this process ----------------------------------------------------------------------------------


def crash_and_resume(resumable, run_main, monkeypatch, outputs: str, overrides, target, name: str, count: int, **how):
    arguments = resumable.arguments(outputs, *overrides)
    with monkeypatch.context() as patch:
        crash_at(patch, target, name, count, **how)
        with pytest.raises(Killed):
            run_main("train", *arguments)
    assert run_main("train", *arguments) == 0
    return resumable.run_folder(outputs)


VARIANTS = {
    "early-stopping": STOPS_EARLY,
    "plateau": PLATEAU,
    "by-steps": ("training.eval_every=7", "training.epochs=2"),
    "half-an-epoch": ("training.epochs=1.5",),
}


@pytest.fixture(scope="module")
def references(resumable, run_main):
    """Undisturbed runs of the variants, made when first asked for."""
    made = {}

    def reference(name: str) -> Path:
        if name not in made:
            outputs = f"reference-{name}"
            assert run_main("train", *resumable.arguments(outputs, *VARIANTS[name])) == 0
            made[name] = resumable.run_folder(outputs)
        return made[name]

    return reference


@pytest.mark.slow
@pytest.mark.parametrize("behind", [0, 1])
def test_early_stopping_after_the_last_checkpoint(resumable, references, run_main, monkeypatch, behind):
    reference = references("early-stopping")
    facts = files.read_json(reference / "training.json")
    evaluations = facts["steps"] // STEPS_PER_EPOCH
    assert evaluations < 12 and facts["best_step"] == facts["steps"] - 2 * STEPS_PER_EPOCH
    outputs = f"early-{behind}"
    folder = crash_and_resume(
        resumable,
        run_main,
        monkeypatch,
        outputs,
        VARIANTS["early-stopping"],
        trainer.StepTrainer,
        "_save_checkpoint",
        evaluations - behind,
    )
    check_same(folder, reference)


@pytest.mark.slow
@pytest.mark.parametrize("save", [2, 4])
def test_plateau_scheduler(resumable, references, run_main, monkeypatch, save):
    reference = references("plateau")
    rates = {entry["learning_rate"] for entry in losses(reference)}
    assert len(rates) > 1  # the scheduler did act, so its state matters
    outputs = f"plateau-{save}"
    target = trainer.StepTrainer
    folder = crash_and_resume(resumable, run_main, monkeypatch, outputs, PLATEAU, target, "_save_checkpoint", save)
    check_same(folder, reference)
    assert [e["learning_rate"] for e in losses(folder)] == [e["learning_rate"] for e in losses(reference)]


@pytest.mark.slow
@pytest.mark.parametrize("save", [3])
def test_evaluation_by_steps(resumable, references, run_main, monkeypatch, save):
    reference = references("by-steps")
    log = files.read_jsonl(reference / "train_log.jsonl")
    assert [entry["step"] for entry in log if "validation_loss" in entry] == [7, 14, 21, 28, 32]
    outputs = f"by-steps-{save}"
    target = trainer.StepTrainer
    folder = crash_and_resume(
        resumable, run_main, monkeypatch, outputs, VARIANTS["by-steps"], target, "_save_checkpoint", save
    )
    check_same(folder, reference)


@pytest.mark.slow
@pytest.mark.parametrize("step", [16, 24])
def test_killed_at_a_step_with_checkpoints_at_every_step(resumable, references, run_main, monkeypatch, step):
    """Around the end of an epoch, and at the last step of training that ends within an epoch."""
    folder = crash_and_resume(
        resumable,
        run_main,
        monkeypatch,
        f"half-{step}",
        (*VARIANTS["half-an-epoch"], ALWAYS),
        callbacks.RunCallback,
        "on_save",
        step,
    )
    check_same(folder, references("half-an-epoch"))


@pytest.mark.parametrize(
    ("target", "name", "count"),
    [
        pytest.param(inference, "score", 2, id="in-the-second-evaluation", marks=pytest.mark.slow),
        pytest.param(trainer.StepTrainer, "load_best", 1, id="before-saving", marks=pytest.mark.slow),
        pytest.param(inference, "score", 5, id="while-the-saved-model-is-checked", marks=pytest.mark.slow),
    ],
)
def test_killed_around_the_end_of_training(resumable, undisturbed_run, run_main, monkeypatch, target, name, count):
    outputs = f"end-{name}-{count}"
    folder = crash_and_resume(resumable, run_main, monkeypatch, outputs, (), target, name, count, before=True)
    check_same(folder, undisturbed_run)


NF4 = {"quantization": "nf4", "training__epochs": 2, "training__batch_size": 6, "training__learning_rate": 0.01}


@pytest.mark.slow
@pytest.mark.parametrize("save", [1, 2])
def test_a_quantised_prompt_job(resumable, run_main, tiny_causal_model, monkeypatch, save):
    """Resumed with the bytes of an undisturbed run, evaluations and answers of several tokens between the steps."""
    changes = NF4 | {"method__lora_dropout": 0.1, "runtime__log_every": 1}
    settings = tiny_causal.words("qwen", tiny_causal_model("qwen"), **changes)

    def words(outputs: str) -> list[str]:
        plain = resumable.arguments(outputs)
        return ["--model", "minilm-lora", "--set", *settings, *plain[plain.index("--data-dir") :]]

    if not (resumable.folder / "nf4").exists():
        assert run_main("train", *words("nf4")) == 0
    outputs = f"nf4-{save}"
    with monkeypatch.context() as patch:
        crash_at(patch, trainer.StepTrainer, "_save_checkpoint", save)
        with pytest.raises(Killed):
            run_main("train", *words(outputs))
    assert run_main("train", *words(outputs)) == 0
    reference, resumed = resumable.run_folder("nf4"), resumable.run_folder(outputs)
    check_same(resumed, reference)
    weights = "model/adapter_model.safetensors"
    assert (resumed / weights).read_bytes() == (reference / weights).read_bytes()


@pytest.mark.slow
def test_runtime_may_change_between_two_starts(resumable, undisturbed_run, run_main, monkeypatch):
    with monkeypatch.context() as patch:
        crash_at(patch, trainer.StepTrainer, "_save_checkpoint", 2)
        with pytest.raises(Killed):
            run_main("train", *resumable.arguments("runtime"))
    assert run_main("train", *resumable.arguments("runtime", "runtime.keep_checkpoints=true")) == 0
    kept = resumable.run_folder("runtime") / "checkpoints"
    assert list(kept.glob("checkpoint-*"))  # as asked for today, not as frozen
    shutil.rmtree(kept)
    check_same(resumable.run_folder("runtime"), undisturbed_run)


@pytest.mark.slow
def test_no_signal_handler_is_left_behind(resumable, undisturbed_run):
    assert signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_IGN)
    assert json.loads((undisturbed_run / "owner.json").read_text())["released"]
