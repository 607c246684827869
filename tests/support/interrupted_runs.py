"""A training run that tests stop at a known moment: its settings, the process, and what must be equal afterwards.

Processes are stopped (SIGSTOP) before they are killed, so that the moment is known and not a matter of luck.
"""

import functools
import multiprocessing
import os
import runpy
import signal
import sys
import time
from multiprocessing import forkserver
from pathlib import Path

from waiting import HANG_S

from common.core import files
from common.core.locks import try_lock
from common.train.checkpoints import list_checkpoints

ROOT = Path(__file__).resolve().parents[2]
LOSES_NOTHING = ("predictions-test.jsonl", "predictions-validation.jsonl", "train_log.jsonl")
# Dropout, so that a resumed run must also continue the random numbers; 16 steps an epoch.
SETTINGS = {
    "training.epochs": "4",
    "training.batch_size": "3",
    "training.learning_rate": "0.003",
    "model_config_overrides.hidden_dropout_prob": "0.2",
    "runtime.log_every": "1",
}
OFTEN = "runtime.checkpoint_minutes=0.001"  # several times an epoch
ALWAYS = "runtime.checkpoint_minutes=0.0000001"  # after every step
STEPS_PER_EPOCH = 16


# Evaluations get worse soon with so high a rate: training stops early, after the best checkpoint.
STOPS_EARLY = ("training.learning_rate=0.05", "training.early_stopping_patience=2", "training.epochs=12")
PLATEAU = (
    "training.lr_scheduler_type=reduce_lr_on_plateau",
    "training.lr_scheduler_kwargs={patience: 0, factor: 0.5, threshold: 0.01}",
    "training.best_metric=validation_loss",
)


class ResumableJob:
    """A job of 64 steps on 48 train, 12 validation and 240 test rows, and the folder that its runs lie in."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model, self.rows = folder, model, folder / "some rows"
        self.rows.mkdir()
        words = {"con": "bad harmful wrong", "neu": "maybe unclear open", "pro": "good useful right"}
        for split, count in (("train", 48), ("validation", 12), ("test", 240)):
            records = []
            for number in range(count):
                label = sorted(words)[number % 3]
                sentence = f"{words[label].split()[number % 2]} idea {number} " + "really " * (number % 7)
                claim = f"Claim {number % 2}."
                records.append({"id": f"{split}{number}", "claim": claim, "sentence": sentence, "stance": label})
            files.write_jsonl(self.rows / f"{split}.jsonl", records)

    def arguments(self, outputs: str, *overrides: str) -> list[str]:
        """Return the arguments of train.py for a run in an outputs folder of that name."""
        settings = SETTINGS | dict(word.split("=", 1) for word in overrides)
        words = ["--model", "minilm-lora", "--set", f'model="{self.model}"']
        words += [f"{key}={value}" for key, value in settings.items()]
        return [*words, "--data-dir", str(self.rows), "--outputs", str(self.folder / outputs)]

    def run_folder(self, outputs: str) -> Path:
        """Return the folder of the one run in that outputs folder."""
        [config] = (self.folder / outputs).rglob("config.yaml")
        return config.parent


class Killed(BaseException):
    """Stands for a kill at an exact line; no handler of ours may catch it."""


def check_same(one: Path, other: Path) -> None:
    """Check that both runs are finished and equal in all that training and evaluation wrote."""
    for name in LOSES_NOTHING:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    first, second = (files.read_json(folder / "training.json") for folder in (one, other))
    for key in ("steps", "best_step", "train_truncated_count", "params_trainable_count", "history"):
        assert first[key] == second[key], key
    metrics = [files.read_json(folder / "metrics.json") for folder in (one, other)]
    keys = [key for key in metrics[0] if key.startswith("test_") and key not in ("test_s", "test_examples_per_s")]
    assert len(keys) > 5 and all(metrics[0][key] == metrics[1][key] for key in keys)
    for folder in (one, other):
        assert not (folder / "failure.json").exists()
        assert not (folder / "checkpoints").exists()
        steps = [entry["step"] for entry in files.read_jsonl(folder / "train_log.jsonl") if "loss" in entry]
        assert steps == list(range(1, first["steps"] + 1))  # nothing twice, nothing missing


class Process:
    """`python scripts/train.py` in a process of its own, stopped at the moment a condition holds.

    It is a fork of a server that has imported the libraries, which takes longer than such a run.
    """

    def __init__(self, outputs: Path, arguments: list[str], **environment: str) -> None:
        self.outputs = outputs
        start = time.monotonic_ns()  # a name for each start
        self.texts = [outputs.parent / f"{outputs.name}-{start}.{name}" for name in ("stdout", "stderr")]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **environment}
        self.child = _server().Process(target=_train, args=(arguments, environment, self.texts))
        self.child.start()

    @property
    def pid(self) -> int:
        """Return the number of the process."""
        return self.child.pid

    def send_signal(self, number: int) -> None:
        """Send the process a signal."""
        os.kill(self.pid, number)

    def stop_when(self, condition) -> Path:
        """Wait until `condition(run folder)` holds, leave the process stopped there, and return the run folder."""
        deadline = time.monotonic() + HANG_S
        while time.monotonic() < deadline:
            assert self.child.is_alive(), self._printed()
            folder = next(self.outputs.rglob("config.yaml"), None)
            if folder is not None and condition(folder.parent):
                self.send_signal(signal.SIGSTOP)
                _wait_until_stopped(self.pid)
                # A stopped process that holds the lock file would keep all others waiting, and so this test.
                with try_lock(folder.parent / ".owner.lock") as is_free:
                    if is_free and condition(folder.parent):
                        return folder.parent
                self.send_signal(signal.SIGCONT)
            time.sleep(0.0005 if folder else 0.02)
        self.child.kill()
        raise AssertionError("the moment never came")

    def kill(self) -> None:
        """Kill the stopped process."""
        self.child.kill()
        self.child.join()
        assert self.child.exitcode == -signal.SIGKILL

    def end(self) -> tuple[int, str, str]:
        """Let a stopped process go on to its end, and return exit code, stdout and stderr."""
        self.send_signal(signal.SIGCONT)
        self.child.join(timeout=HANG_S)
        assert self.child.exitcode is not None, "it does not end"
        return self.child.exitcode, *self._printed()

    def _printed(self) -> tuple[str, ...]:
        return tuple(text.read_text() if text.exists() else "" for text in self.texts)


@functools.cache
def _server():
    """Return the context of multiprocessing whose processes have imported what train.py needs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["common.train.run", "common.runs.lifecycle", "common.cli.sweeps"])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT / "scripts")  # the server inherits it
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)
    return context


def _train(arguments: list[str], environment: dict[str, str], texts: list[Path]) -> None:
    """Run train.py as from its command line; a target of multiprocessing."""
    os.setsid()  # a group of its own, to be signalled as a whole
    for descriptor, text in zip((1, 2), texts, strict=True):
        os.dup2(os.open(text, os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.argv = ["scripts/train.py", *arguments]
    runpy.run_path("scripts/train.py", run_name="__main__")


def _wait_until_stopped(pid: int) -> None:
    while Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "TZ":
        time.sleep(0.0002)


def complete(folder: Path) -> list[int]:
    """Return the steps of a run's complete checkpoints."""
    return [step for step, _ in list_checkpoints(folder / "checkpoints")]


def partial(folder: Path) -> bool:
    """Return whether a checkpoint lies there half written."""
    return any((folder / "checkpoints").glob(".checkpoint-*.partial"))


def losses(folder: Path) -> list[dict]:
    """Return the log's entries of training steps."""
    log = folder / "train_log.jsonl"
    return [entry for entry in files.read_jsonl(log) if "loss" in entry] if log.exists() else []


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
