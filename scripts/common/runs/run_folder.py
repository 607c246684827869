"""Run folders: `outputs/<dataset>/<job>[/<variant>]/seed-<n>/`, a frozen config, one writer at a time.

A run is finished if and only if its `metrics.json` exists. Its `config.yaml` is written when the run is created and is
all that the run reads from then on.
"""

import contextlib
import dataclasses
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common.config.catalog import leaves, results_part, with_defaults
from common.config.job import Dataset, Job, Training
from common.core import yaml_io
from common.core.errors import DiskFull, Interrupted, PeftableError, RunError, Superseded, TimeLimit
from common.core.files import check_fences, remove, utc_now, write_json, write_text
from common.core.schema import validate
from common.runs import requeue, run_lock

CONFIG, METRICS, FAILURE, TRAINING, MODEL, LOG = (
    "config.yaml",
    "metrics.json",
    "failure.json",
    "training.json",
    "model",
    "train_log.jsonl",
)
SCHEMA = 1
NO_RESULTS = ("published", "demo", "smoke")  # folders of outputs/ whose runs are never published, nor of a status


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything a run was created with.

    Attributes:
        job_name, dataset_name, variant, seed: which run it is.
        job, dataset: the resolved YAML; a classical baseline has no job.
        data_sha256: of all rows (`data.fingerprint`), "" for a run that reads none.
        data_dir: the folder given as DATA_DIR, None for the dataset's own source.
        baseline: "majority", "tfidf", "untuned", "zero-shot", "adapter" (made elsewhere), or "" for a run of ours.
    """

    job_name: str
    dataset_name: str
    variant: str
    seed: int | None
    job: Job | None
    dataset: Dataset
    data_sha256: str
    data_dir: str | None = None
    baseline: str = ""

    def plain(self) -> dict[str, Any]:
        """Return the content of `config.yaml`."""
        return {
            "schema": SCHEMA,
            "run": {
                "job": self.job_name,
                "dataset": self.dataset_name,
                "variant": self.variant,
                "seed": self.seed,
                "baseline": self.baseline,
            },
            "data": {"sha256": self.data_sha256, "dir": self.data_dir},
            "job": self.job.model_dump(mode="json", by_alias=True) if self.job else None,
            "dataset": self.dataset.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {"schema": SCHEMA},
        }

    def identity(self) -> dict[str, Any]:
        """Return what decides the results, as dotted leaves; two runs that agree in it may continue each other.

        Where nothing is trained by us, method and recipe decide nothing.
        """
        recipe = results_part(self.job) if self.job else {}
        if self.baseline:
            recipe = {key: value for key, value in recipe.items() if key not in ("method", "training")}
        if self.job is not None and self.job.head == "prompt":
            recipe |= {"prompt": self.dataset.prompt and self.dataset.prompt.model_dump()}
            recipe |= {"answers": self.dataset.answers}
        if self.job is not None and {"max_train_samples", "max_eval_samples"} & _given(self.job.training):
            recipe |= {"splits": {"seed": self.dataset.splits.seed}}  # it chooses the sample
        return leaves(
            {
                **recipe,
                "labels": list(self.dataset.labels),
                "mean_f1_labels": self.dataset.mean_f1_labels,
                "text": list(self.dataset.text),
                "data": {"sha256": self.data_sha256},
                "seed": self.seed,
            }
        )


def _given(training: Training) -> set[str]:
    return {name for name, value in training if value is not None}


def folder(outputs: Path, dataset: str, job: str, variant: str, last: str) -> Path:
    """Return a run's folder; `last` is "seed-<n>" or "baseline-<name>"."""
    return outputs / dataset / job / variant / last if variant else outputs / dataset / job / last


def freeze(path: Path, config: RunConfig, command: str) -> None:
    """Create the run folder with its frozen config, or check that an existing one agrees.

    Args:
        path: the run folder.
        config: the current one.
        command: how to start over, for the message.

    Raises:
        RunError: the frozen config differs; the message lists the differences.
    """
    if (path / CONFIG).exists():
        changes = differences(thaw(path), config)
        if changes:
            raise RunError(
                f"{path}: the run was created with another configuration:\n  "
                + "\n  ".join(changes)
                + f"\nStart over (the old run is kept beside it) with: {command} FORCE=1"
            )
    else:
        write_text(path / CONFIG, yaml_io.dump(config.plain()))


def set_aside(path: Path) -> Path | None:
    """Rename an existing run folder to `<name>.replaced-<UTC time>` and return the new path."""
    if not (path / CONFIG).exists():
        return None
    if owner := run_lock.live_owner(path):
        raise RunError(run_lock.busy(path, owner))
    stamp = f"{path.name}.replaced-{utc_now().replace(':', '').replace('-', '')}"
    aside = path.with_name(stamp)
    number = 1
    while aside.exists():  # twice within a second
        number += 1
        aside = path.with_name(f"{stamp}-{number}")
    path.rename(aside)
    return aside


def thaw(path: Path) -> RunConfig:
    """Read a run's frozen config; keys added to the schema since then take their defaults.

    Raises:
        RunError: there is no run in that folder.
    """
    file = path / CONFIG
    if not file.exists():
        raise RunError(f"{path}: there is no run here (no {CONFIG}).")
    document = yaml_io.read(file)
    try:
        run, job, dataset, data = (document[key] for key in ("run", "job", "dataset", "data"))
        return RunConfig(
            job_name=run["job"],
            dataset_name=run["dataset"],
            variant=run["variant"],
            seed=run["seed"],
            job=validate(Job, with_defaults(job), str(file)) if job else None,
            dataset=validate(Dataset, dataset, str(file)),
            data_sha256=data["sha256"],
            data_dir=data.get("dir"),
            baseline=run.get("baseline", ""),
        )
    except (KeyError, TypeError) as error:
        raise RunError(f"{file}: not the config of a run: {error} is missing.") from error


def need_model(path: Path, command: str) -> None:
    """Raise a `RunError` when the run folder holds no trained model.

    Args:
        path: the run folder.
        command: what trains it.
    """
    if (path / CONFIG).exists() and (baseline := thaw(path).baseline):
        raise RunError(f"{path}: this is the baseline '{baseline}'; a baseline keeps no model. Use a trained run.")
    if not ((path / MODEL).is_dir() and (path / TRAINING).is_file()):
        found = "the run is not finished" if (path / CONFIG).exists() else "there is no such run"
        raise RunError(f"{path}: {found}, so it has no model yet. Train it first: {command}")


def need_same_recipe(path: Path, current: RunConfig) -> RunConfig:
    """Return a run's frozen config, having checked that its job still says the same; data is not compared.

    Raises:
        RunError: the job differs; the message lists the differences.
    """
    frozen = thaw(path)
    if changes := differences(frozen, dataclasses.replace(current, data_sha256=frozen.data_sha256)):
        raise RunError(
            f"{path}: the run was created with another configuration:\n  " + "\n  ".join(changes) + "\n"
            f"Use the run as it is with: RUN={path}"
        )
    return frozen


def need_same_data(path: Path, config: RunConfig, data_sha256: str) -> None:
    """Raise a `RunError` when the rows are not those that a run was created with.

    Args:
        path: the run folder.
        config: its frozen config.
        data_sha256: of the rows as they are now.
    """
    if data_sha256 != config.data_sha256:
        source = config.data_dir or f"the source of the data set '{config.dataset_name}'"
        raise RunError(
            f"{path}: the rows have changed since the run was created: their SHA-256 was {config.data_sha256}, that of "
            f"{source} is {data_sha256}. Put the old rows back, or start over from its job, with FORCE=1."
        )


def differences(frozen: RunConfig, current: RunConfig) -> list[str]:
    """Return one line a difference that changes results."""
    old, new = frozen.identity(), current.identity()
    return [
        f"{key}: {old.get(key, 'absent')} → {new.get(key, 'absent')}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def need_job(config: RunConfig) -> Job:
    """Return the run's job; only classical baselines have none, and nothing of theirs needs one."""
    if config.job is None:
        raise RunError(f"{config.job_name}: a classical baseline has no model.")
    return config.job


def is_finished(path: Path) -> bool:
    """Return whether the run succeeded."""
    return (path / METRICS).exists()


def headline(document: dict[str, Any], split: str) -> str:
    """Return metrics in one line for the terminal: the leading score and the usual ones."""
    names = dict.fromkeys([document["score"].removeprefix(f"{split}_"), "accuracy", "f1_macro"])
    figures = ", ".join(f"{name} {document[f'{split}_{name}']:.4f}" for name in names)
    return f"{split} (n={document[f'{split}_n']}): {figures}"


# --- failure, time, origin -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def recorded_failure(path: Path, command: str) -> Iterator[None]:
    """Write `failure.json` when the body fails, with the command that continues; remove an older one at the start.

    Where the time limit is near, the Slurm job is put back into the queue first, and the file says how that went.
    """
    try:
        remove(path / FAILURE)
        yield
    except BaseException as error:
        told = _settled(path, error, command)
        if path.exists() and not isinstance(told, Superseded):
            document = {
                "schema": SCHEMA,
                "error": ": ".join(part for part in (type(told).__name__, str(told)) if part),
                "interrupted": isinstance(told, Interrupted | KeyboardInterrupt),
                "expected": isinstance(told, PeftableError),
                "continue_with": command,
                "time": utc_now(),
            }
            with contextlib.suppress(DiskFull):  # what went wrong matters more
                write_json(path / FAILURE, document)
        if told is error:
            raise
        raise told from None


def _settled(path: Path, error: BaseException, command: str) -> BaseException:
    """Return what a failure amounts to: that of a superseded start is no failure, and a time limit may be helped."""
    if isinstance(error, Superseded):
        return error
    try:
        check_fences(path)
    except Superseded as superseded:
        return superseded
    return requeue.settle(error, command) if isinstance(error, TimeLimit) else error


def carry_on(path: Path, command: str, work: Callable[[Path, RunConfig], None]) -> None:
    """Have `work` carry a run to its end as its one writer, unless it is finished.

    Nobody may be watching: whatever stops it, also before training, is left in `failure.json`.

    Args:
        path: the run folder.
        command: what continues it.
        work: takes folder and frozen config.
    """
    config = thaw(path)
    if is_finished(path):
        return
    with run_lock.ownership(path), recorded_failure(path, command):
        if not is_finished(path):  # by another start, since
            work(path, config)


def this_command() -> str:
    """Return the command line of this process, quoted for a shell."""
    return shlex.join(["python", *sys.argv])
