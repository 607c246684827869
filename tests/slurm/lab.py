"""A copy of the project in a folder that needs quoting, with small data and a small model, run as a user runs it."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from waiting import HANG_S

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("scripts", "jobs", "data", "slurm", "Makefile", "README.md")
RESULTS = ("predictions-test.jsonl", "predictions-validation.jsonl")
STEPS_OF_EPOCH = 6
# Added to the copy's scripts/common/train/callbacks.py: a submitted run lasts, and leaves the processor to other tests.
WAIT_IN_STEPS = """

def _wait_in_steps() -> None:
    import os

    seconds, step_end = float(os.environ.get("LAB_STEP_S", 0)), RunCallback.on_step_end

    def on_step_end(*arguments: Any, **keywords: Any) -> None:
        time.sleep(seconds)
        step_end(*arguments, **keywords)

    RunCallback.on_step_end = on_step_end


_wait_in_steps()
"""
_undisturbed: dict[tuple[tuple[str, ...], str, int], Path] = {}  # by settings, job and seed; every lab's rows are equal


class Lab:
    """What a user does, and what comes of it.

    Args:
        cluster: the testbed.
        folder: where the copy and its outputs lie.
        model: a model's folder.
        rows: a folder with train, validation and test rows of stance-sample's columns.
    """

    def __init__(self, cluster, folder: Path, model: Path, rows: Path) -> None:
        self.cluster, self.model, self.rows = cluster, model, rows
        self.repository, self.outputs = folder / "a repository", folder / "out puts"
        for part in PARTS:
            source, target = ROOT / part, self.repository / part
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.partial*"))
            else:
                shutil.copy(source, target)
        with (self.repository / "scripts/common/train/callbacks.py").open("a", encoding="utf-8") as stream:
            stream.write(WAIT_IN_STEPS)
        self.profile("testbed")
        self.env = cluster.env | {"OMP_NUM_THREADS": "1", "HF_TOKEN": "hf_neverprinted"}
        self.prefix: tuple[str, ...] = ()  # of every command, to be another Unix user
        self.python = sys.executable

    def profile(self, name: str, step_s: float = 0.15, **keys: object) -> None:
        """Write a profile: the testbed's with other values, and with steps that wait for `step_s` seconds."""
        keys.setdefault("setup", ["export ALLOW_CPU=1", f"export LAB_STEP_S={step_s}"])
        text = (ROOT / "slurm" / "testbed.yaml").read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if line.partition(":")[0] not in keys]
        text = "\n".join([*lines, *(f"{key}: {json.dumps(value)}" for key, value in keys.items())]) + "\n"
        (self.repository / "slurm" / f"{name}.yaml").write_text(text, encoding="utf-8")

    # --- commands ---

    def words(self, *settings: str, local: bool = False) -> list[str]:
        """The options that every command shares: the small model, the rows, where runs lie."""
        outputs = self.outputs.with_name("local out") if local else self.outputs
        return ["--set", f'model="{self.model}"', *settings, "--data-dir", str(self.rows), "--outputs", str(outputs)]

    def run(self, script: str, *arguments: object, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a script to its end; fail with what it said."""
        command = [*self.prefix, self.python, f"scripts/{script}.py", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self.repository, env=self.env | env, capture_output=True, text=True, timeout=HANG_S
        )
        assert done.returncode == 0 or not check, (
            f"{shlex.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done

    def start(self, script: str, *arguments: object, **env: str) -> subprocess.Popen[str]:
        """Start a script."""
        command = [*self.prefix, self.python, f"scripts/{script}.py", *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.repository, env=self.env | env, **pipes)

    def submit(self, *arguments: str, settings: tuple[str, ...] = (), check: bool = True) -> str:
        """`make submit MODEL=minilm-lora …`, or what `arguments` say; what it printed."""
        words = (
            arguments if arguments and arguments[0] in ("--all", "--model") else ("--model", "minilm-lora", *arguments)
        )
        done = self.run("submit", *words, *self.words(*settings), check=check)
        return done.stdout + done.stderr

    def undisturbed(self, settings: tuple[str, ...] = (), job: str = "minilm-lora", seed: int = 1) -> Path:
        """Train here, without Slurm, what submitted runs must equal, once for all tests; the run folder."""
        if (settings, job, seed) not in _undisturbed:
            before = set(self.finished(local=True))
            self.run("train", "--model", job, "--seed", str(seed), *self.words(*settings, local=True))
            [_undisturbed[settings, job, seed]] = set(self.finished(local=True)) - before
        return _undisturbed[settings, job, seed]

    def status(self) -> str:
        """What `make status` prints."""
        return self.run("status", "--outputs", self.outputs).stdout

    # --- what is there ---

    def finished(self, local: bool = False) -> list[Path]:
        """The folders of finished runs."""
        outputs = self.outputs.with_name("local out") if local else self.outputs
        return [file.parent for file in outputs.rglob("metrics.json")]

    def folders(self, job: str = "minilm-lora") -> list[Path]:
        """The run folders of a job, by name."""
        return sorted(file.parent for file in self.outputs.rglob("config.yaml") if job in file.parts)

    def folder(self, job: str = "minilm-lora") -> Path:
        """The one run folder of a job."""
        [found] = self.folders(job)
        return found

    def job_id(self, folder: Path) -> str:
        """The id of a run's newest job."""
        return str(read(folder / "submit.json")["job_id"])

    def log(self, folder: Path) -> str:
        """All that a run's jobs have written."""
        logs = sorted(folder.glob("slurm/*/*.log"))
        return "\n".join(log.read_text(encoding="utf-8", errors="replace") for log in logs)

    # --- waiting ---

    def wait_finished(self, *folders: Path, seconds: float = HANG_S) -> None:
        """Wait until runs have metrics, and have cleared up after these."""

        def done() -> bool:
            return all(
                (folder / "metrics.json").exists() and read(folder / "owner.json")["released"] for folder in folders
            )

        logs = "\n".join(self.log(folder)[-1500:] for folder in folders)
        self.cluster.wait_until(done, f"finished: {folders}\n{logs}", seconds)

    def wait_step(self, folder: Path, step: int) -> None:
        """Wait until a run has logged a step."""
        self.cluster.wait_until(lambda: last_step(folder) >= step, f"step {step} of {folder}")

    def wait_checkpoint(self, folder: Path) -> None:
        """Wait until a run has a checkpoint."""
        self.cluster.wait_until(lambda: list(folder.glob("checkpoints/checkpoint-*")), f"checkpoint in {folder}")

    def wait_queue_empty(self) -> None:
        """Wait until no job is queued or runs."""
        self.cluster.wait_until(lambda: not self.cluster.squeue(), "no job left")


def lasting(epochs: int, checkpoint_minutes: float = 0.03) -> tuple[str, ...]:
    """Settings of a run of small steps, with dropout, that evaluates at its end alone; a submitted epoch takes 1 s."""
    return (
        f"training.epochs={epochs}",
        f"training.eval_every={epochs}",
        "training.batch_size=8",
        f"runtime.checkpoint_minutes={checkpoint_minutes}",
        "model_config_overrides.hidden_dropout_prob=0.1",
    )


def read(path: Path) -> dict:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def last_step(folder: Path) -> int:
    """The last step that a run has logged, 0 before the first."""
    log = folder / "train_log.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


def assert_same(one: Path, other: Path) -> None:
    """Two finished runs are equal in all that training and scoring wrote; nothing twice in the log, nothing missing."""
    for name in RESULTS:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    first, second = read(one / "metrics.json"), read(other / "metrics.json")
    keys = [key for key in first if key.startswith("test_") and key not in ("test_s", "test_examples_per_s")]
    assert len(keys) > 5
    assert {key: first[key] for key in keys} == {key: second[key] for key in keys}
    logs = [(folder / "train_log.jsonl") for folder in (one, other)]
    steps = [[json.loads(line)["step"] for line in log.read_text(encoding="utf-8").splitlines()] for log in logs]
    assert steps[0] == steps[1]
    assert not (other / "failure.json").exists() and not (other / "checkpoints").exists()


def is_alive(pid: int) -> bool:
    """Whether a process of this machine lives."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
