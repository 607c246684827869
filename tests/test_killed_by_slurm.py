"""What Slurm does to a job's process: time limits, cancelling, a second start while the first still lives.

Slurm itself is a scontrol that writes down its calls; processes are stopped at known moments, as in
test_kill_and_resume.
"""

import multiprocessing
import os
import shlex
import shutil
import signal
from pathlib import Path

import pytest
from interrupted_runs import (
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
from common.model.heads import ClassificationHead
from common.runs import requeue
from common.train import trainer

pytestmark = pytest.mark.slow


@pytest.fixture
def created(resumable, undisturbed_run, request):
    """`created(workers=2)` → the folder of a run like `undisturbed_run` that has its config.yaml alone."""

    def create(workers: int = 0, checkpoint_minutes: str = "30.0") -> Path:
        folder = resumable.folder / request.node.name / "seed-1"
        shutil.rmtree(folder.parent, ignore_errors=True)
        folder.mkdir(parents=True)
        text = (undisturbed_run / "config.yaml").read_text()
        for key, value in (("dataloader_workers", workers), ("checkpoint_minutes", checkpoint_minutes)):
            [line] = [line for line in text.splitlines() if line.strip().startswith(f"{key}:")]
            text = text.replace(line, f"{line.partition(':')[0]}: {value}")
        (folder / "config.yaml").write_text(text)
        return folder

    return create


def job(folder: Path, restart: int = 0) -> Process:
    """Start the run as Slurm starts submission 1 of it for the (restart + 1)-th time."""
    environment = {"PEFTABLE_SUBMISSION": str(folder / "slurm" / "1"), "SLURM_JOB_ID": "12"}
    (folder / "slurm" / "1").mkdir(parents=True, exist_ok=True)
    if restart:
        environment["SLURM_RESTART_COUNT"] = str(restart)
    return Process(folder.parent, ["--run", str(folder)], **environment)


def signalled(process: Process, name: str) -> tuple[int, str]:
    """Send a signal to a stopped process and all its children, let it end, and return its code and stderr."""
    os.killpg(process.pid, getattr(signal, name))
    code, _, err = process.end()
    assert err.count("error:") == 1 and err.startswith("error: ") and "Traceback" not in err, err
    return code, err


def at_its_limit(process: Process, moment) -> tuple[int, str]:
    """Let a process be told of its time limit at a moment; its code and stderr."""
    process.stop_when(moment)
    return signalled(process, "SIGUSR2")


def finished_by(process: Process) -> str:
    code, out, err = process.end()
    assert code == 0, err
    return out


def requeues(folder: Path) -> list[dict]:
    file = folder / "slurm" / "1" / "requeues.jsonl"
    return files.read_jsonl(file) if file.exists() else []


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def in_training(folder: Path) -> bool:
    return len(losses(folder)) > STEPS_PER_EPOCH + 3


def in_scoring(folder: Path) -> bool:
    return (folder / "training.json").exists()


def in_loading(folder: Path) -> bool:
    """The process that owns the folder has begun to load what it needs."""
    if not (folder / "owner.json").exists() or losses(folder):
        return False
    owner = files.read_json(folder / "owner.json")
    return not owner["released"] and "libtorch" in Path(f"/proc/{owner['pid']}/maps").read_text()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_time_limit_in_training(resumable, undisturbed_run, created, fake_command, workers):
    scontrol = fake_command("scontrol")
    folder = created(workers)
    process = job(folder)
    process.stop_when(in_training)
    assert complete(folder) == [STEPS_PER_EPOCH]
    code, err = signalled(process, "SIGUSR2")
    assert code == 75 and "SIGUSR2, the time limit is near, at step " in err and "job 12 is back in the queue" in err
    assert scontrol() == ["requeue 12"]
    [line] = requeues(folder)
    reached = complete(folder)[-1]
    assert (line["what"], line["done"], line["restart"]) == ("train", reached, 0) and reached > STEPS_PER_EPOCH
    failure = files.read_json(folder / "failure.json")
    assert failure["interrupted"] is True and failure["continue_with"] == f"make train RUN={shlex.quote(str(folder))}"
    assert files.read_json(folder / "owner.json")["released"] and not partial(folder)
    progress = files.read_json(folder / "progress.json")
    assert (progress["what"], progress["done"], progress["total"]) == ("train", reached, 4 * STEPS_PER_EPOCH)
    assert f"continuing from checkpoint-{reached}" in finished_by(job(folder, restart=1))
    check_same(folder, undisturbed_run)
    assert files.read_json(folder / "owner.json")["restart"] == 1


@pytest.mark.parametrize(
    ("names", "workers"),
    [(("SIGTERM",), 2), (("SIGUSR2", "SIGTERM"), 0)],
    ids=["cancelled", "cancelled at the limit"],
)
def test_a_cancelled_job_does_not_come_back(
    resumable, undisturbed_run, created, fake_command, run_main, names, workers
):
    scontrol = fake_command("scontrol")
    folder = created(workers)
    process = job(folder)
    process.stop_when(in_training)
    for name in names[:-1]:
        os.killpg(process.pid, getattr(signal, name))
    code, err = signalled(process, names[-1])
    assert code == 75 and err.startswith("error: SIGTERM at step ")
    assert scontrol() == [] and requeues(folder) == []
    assert complete(folder)[-1] > STEPS_PER_EPOCH and not partial(folder)
    assert run_main("train", "--run", str(folder)) == 0  # by hand: the process is dead, on this host
    check_same(folder, undisturbed_run)


def test_the_time_limit_in_loading_helps_once(resumable, undisturbed_run, created, fake_command):
    scontrol = fake_command("scontrol")
    folder = created()
    code, _ = at_its_limit(job(folder), in_loading)
    assert code == 75 and scontrol() == ["requeue 12"]
    assert [(line["what"], line["done"]) for line in requeues(folder)] == [("load", 0)]
    code, err = at_its_limit(job(folder, restart=1), in_loading)
    assert code == 5 and "the time limit is too short: nothing was done since the last start" in err
    assert scontrol() == ["requeue 12"] and len(requeues(folder)) == 1
    failure = files.read_json(folder / "failure.json")
    assert failure["expected"] is True and failure["interrupted"] is False
    finished_by(job(folder, restart=2))
    check_same(folder, undisturbed_run)


def test_the_time_limit_in_scoring(resumable, undisturbed_run, created, fake_command):
    scontrol = fake_command("scontrol")
    folder = created()
    code, _ = at_its_limit(job(folder), in_scoring)
    assert code == 75 and scontrol() == ["requeue 12"] and not (folder / "metrics.json").exists()
    finished_by(job(folder, restart=1))
    check_same(folder, undisturbed_run)


def test_a_scontrol_that_fails_is_told_with_the_command(resumable, created, fake_command):
    fake_command("scontrol", "echo 'Invalid job id specified' >&2; exit 1")  # others are tried again for a minute
    folder = created()
    code, err = at_its_limit(job(folder), in_training)
    assert code == 75 and requeues(folder) == []
    failure = files.read_json(folder / "failure.json")
    for text in (err, failure["error"]):
        assert "job 12 could not be put back into the queue (scontrol: Invalid job id" in text
        assert failure["continue_with"] in text


# --- in an evaluation of training, which may take longer than the time that is left -----------------------------------

ROW_BY_ROW = "runtime.score_token_budget=16"  # 12 batches an evaluation
VARIED = {
    "epochs": (ROW_BY_ROW,),
    "early-stopping": (ROW_BY_ROW, *STOPS_EARLY),
    "plateau": (ROW_BY_ROW, *PLATEAU),
    "by-steps": (ROW_BY_ROW, "training.eval_every=7", "training.epochs=2"),
    "half-an-epoch": (ROW_BY_ROW, "training.epochs=1.5"),
}


@pytest.fixture(scope="module")
def wholes(resumable, run_main):
    """Undisturbed runs of `VARIED`, made when first asked for."""
    made = {}

    def whole(name: str) -> Path:
        if name not in made:
            assert run_main("train", *resumable.arguments(f"whole-{name}", *VARIED[name])) == 0
            made[name] = resumable.run_folder(f"whole-{name}")
        return made[name]

    return whole


@pytest.fixture
def here(tmp_path, monkeypatch):
    """This process is a Slurm job's: returns a function that starts it for the n-th time."""
    monkeypatch.setenv("SLURM_JOB_ID", "12")

    def start(folder: Path, restart: int) -> None:
        (folder / "slurm" / "1").mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv("PEFTABLE_SUBMISSION", str(folder / "slurm" / "1"))
        monkeypatch.setenv("SLURM_RESTART_COUNT", str(restart))
        monkeypatch.setattr(requeue, "_progress", {"what": "load", "done": 0})

    return start


def signal_at(patch, target, method: str, name: str, count: int) -> list[str]:
    """Send this process a signal in the count-th call of a method; return a list that grows with every call."""
    original, calls = getattr(target, method), []

    def wrapper(*arguments, **options):
        calls.append(method)
        if len(calls) == count:
            os.kill(os.getpid(), getattr(signal, name))
        return original(*arguments, **options)

    patch.setattr(target, method, wrapper)
    return calls


def run_folder(resumable, outputs: str, reference: Path) -> Path:
    """A created run with the config of another."""
    folder = resumable.folder / outputs / "seed-1"
    shutil.rmtree(folder.parent, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(reference / "config.yaml", folder)
    return folder


@pytest.mark.parametrize("name", ["SIGUSR2", "SIGTERM"])
@pytest.mark.parametrize(("variant", "evaluation"), [("epochs", 2), ("by-steps", 3), ("plateau", 2)])
def test_a_signal_in_an_evaluation(
    resumable,
    wholes,
    here,
    run_main,
    fake_command,
    monkeypatch,
    capsys,
    name,
    variant,
    evaluation,
):
    scontrol, reference = fake_command("scontrol"), wholes(variant)
    folder = run_folder(resumable, f"in-{variant}-{name}", reference)
    here(folder, 0)
    batch = 12 * (evaluation - 1) + 5
    with monkeypatch.context() as patch:
        calls = signal_at(patch, ClassificationHead, "scores", name, batch)
        capsys.readouterr()
        assert run_main("train", "--run", str(folder)) == 75
    assert len(calls) == batch  # none after the signal
    step = (7 if variant == "by-steps" else STEPS_PER_EPOCH) * evaluation
    assert f"{name}" in (err := capsys.readouterr().err) and f"at step {step} of " in err and "Traceback" not in err
    assert complete(folder)[-1] == step and files.read_json(folder / "failure.json")["interrupted"]
    assert scontrol() == (["requeue 12"] if name == "SIGUSR2" else [])
    expected = [("train, without the evaluation", step)] if name == "SIGUSR2" else []
    assert [(line["what"], line["done"]) for line in requeues(folder)] == expected
    here(folder, 1)
    assert run_main("train", "--run", str(folder)) == 0
    equal(folder, reference)


def equal(folder: Path, reference: Path) -> None:
    check_same(folder, reference)
    weights = "model/adapter_model.safetensors"
    assert (folder / weights).read_bytes() == (reference / weights).read_bytes()
    logs = [files.read_jsonl(path / "train_log.jsonl") for path in (folder, reference)]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("variant", ["epochs", "half-an-epoch", "early-stopping"])
def test_a_signal_in_the_last_evaluation_and_in_the_one_that_catches_up(
    resumable,
    wholes,
    here,
    run_main,
    fake_command,
    monkeypatch,
    variant,
):
    """The second start gets no further: that is the last. By hand it ends without another step."""
    scontrol, reference = fake_command("scontrol"), wholes(variant)
    log = files.read_jsonl(reference / "train_log.jsonl")
    evaluations = sum("validation_loss" in entry for entry in log)
    folder = run_folder(resumable, f"twice-{variant}", reference)
    for restart, (batch, code) in enumerate([(12 * evaluations - 1, 75), (11, 5)]):
        here(folder, restart)
        with monkeypatch.context() as patch:
            calls = signal_at(patch, ClassificationHead, "scores", "SIGUSR2", batch)
            assert run_main("train", "--run", str(folder)) == code
        assert len(calls) == batch
    assert scontrol() == ["requeue 12"] and complete(folder)[-1] == log[-1]["step"]
    assert run_main("train", "--run", str(folder)) == 0
    equal(folder, reference)


def test_a_signal_in_the_step_before_an_evaluation_and_after_all_its_batches(
    resumable,
    wholes,
    here,
    run_main,
    fake_command,
    monkeypatch,
):
    """The next start evaluates alone, which is progress enough to be put back once more."""
    scontrol, reference = fake_command("scontrol"), wholes("epochs")
    folder = run_folder(resumable, "around", reference)
    here(folder, 0)
    with monkeypatch.context() as patch:
        scores = signal_at(patch, ClassificationHead, "scores", "SIGUSR2", 0)
        signal_at(patch, trainer.StepTrainer, "training_step", "SIGUSR2", STEPS_PER_EPOCH)
        assert run_main("train", "--run", str(folder)) == 75
    assert scores == [] and complete(folder) == [STEPS_PER_EPOCH]
    here(folder, 1)
    with monkeypatch.context() as patch:
        signal_at(patch, ClassificationHead, "scores", "SIGUSR2", 12)  # nothing is left to stop
        assert run_main("train", "--run", str(folder)) == 75
    assert scontrol() == ["requeue 12"] * 2
    assert [line["what"] for line in requeues(folder)] == ["train, without the evaluation", "train"]
    here(folder, 2)
    assert run_main("train", "--run", str(folder)) == 0
    equal(folder, reference)


def test_killed_while_catching_up(resumable, wholes, here, run_main, fake_command, monkeypatch):
    fake_command("scontrol")
    reference = wholes("epochs")
    folder = run_folder(resumable, "catching-up", reference)
    here(folder, 0)
    with monkeypatch.context() as patch:
        signal_at(patch, ClassificationHead, "scores", "SIGUSR2", 15)
        assert run_main("train", "--run", str(folder)) == 75
    here(folder, 1)
    with monkeypatch.context() as patch:
        crash_at(patch, trainer.StepTrainer, "_save_checkpoint", 1, before=True)  # the evaluation is in the log
        with pytest.raises(Killed):
            run_main("train", "--run", str(folder))
    here(folder, 2)
    assert run_main("train", "--run", str(folder)) == 0
    equal(folder, reference)


# --- two starts at once ----------------------------------------------------------------------------------------------

MOMENTS = {
    "loading": ("30.0", in_loading),
    "training": ("30.0", in_training),
    "writing": ("0.001", lambda folder: len(complete(folder)) > 1 and partial(folder)),
    "scoring": ("30.0", in_scoring),
}


@pytest.mark.parametrize(("moment", "name"), [*((moment, "SIGCONT") for moment in MOMENTS), ("loading", "SIGUSR2")])
def test_an_old_start_that_wakes_up_writes_nothing(resumable, undisturbed_run, created, fake_command, moment, name):
    """A node that Slurm took for dead, and whose job it started again elsewhere; also when its time limit comes."""
    scontrol = fake_command("scontrol")
    minutes, condition = MOMENTS[moment]
    folder = created(checkpoint_minutes=minutes)
    old = job(folder)
    old.stop_when(condition)
    finished_by(job(folder, restart=1))
    check_same(folder, undisturbed_run)
    before = snapshot(folder)
    code, err = signalled(old, name)
    assert code == 76 and "a newer start has taken this run over (Slurm job 12, submission 1, restart 1" in err
    assert snapshot(folder) == before and scontrol() == []
    assert files.read_json(folder / "owner.json")["attempt"] == 2
    assert [path.name for path in folder.rglob(".*")] == [".owner.lock"]


def test_an_old_start_wakes_up_while_the_new_one_trains(resumable, undisturbed_run, created):
    folder = created()
    old, new = job(folder), None
    old.stop_when(in_training)
    new = job(folder, restart=1)
    new.stop_when(lambda folder: len(losses(folder)) > 2 * STEPS_PER_EPOCH + 3)
    before = snapshot(folder)
    assert signalled(old, "SIGCONT")[0] == 76
    assert snapshot(folder) == before
    assert new.end()[0] == 0
    check_same(folder, undisturbed_run)


# --- processes that prepare batches ----------------------------------------------------------------------------------


def test_a_worker_that_dies_is_one_message(created, undisturbed_run, run_script, monkeypatch):
    folder = created(workers=2, checkpoint_minutes="0.0000001")
    original, steps = trainer.StepTrainer.training_step, []

    def step(*arguments, **options):
        steps.append(1)
        if len(steps) == 5:
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGKILL)
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.StepTrainer, "training_step", step)
        code, _, err = run_script("train", "--run", str(folder))
    assert code == 5 and err.count("error: ") == 1 and "Traceback" not in err
    assert "a process that prepares batches has ended (DataLoader worker" in err
    assert files.read_json(folder / "failure.json")["expected"]
    assert complete(folder)[-1] >= 4
    assert run_script("train", "--run", str(folder))[0] == 0
    check_same(folder, undisturbed_run)


def test_workers_change_nothing(created, undisturbed_run, run_main):
    folder = created(workers=2)
    assert run_main("train", "--run", str(folder)) == 0
    check_same(folder, undisturbed_run)
