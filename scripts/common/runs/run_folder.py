"""Where a run folder's path comes from (`outputs/<dataset>/<job>[/<variant>]/seed-<n>/`), and its config.yaml.

A run is finished if and only if its `metrics.json` exists. Its `config.yaml` is written when the run is created, and
the run reads only that file from then on.
"""

import dataclasses
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common.config.catalog import with_defaults
from common.config.dataset import Dataset, Folds
from common.config.job import STRATIFIED, Job
from common.core import yaml_io
from common.core.documents import is_of, read_object, require_object
from common.core.errors import ConfigError, RunError
from common.core.files import utc_now, write_errors, write_text
from common.core.schema import validate
from common.runs import run_lock
from common.runs.documents import Metrics, value
from common.runs.run_config import RunConfig, differences

CONFIG, METRICS, FAILURE, TRAINING, MODEL, LOG = (
    "config.yaml",
    "metrics.json",
    "failure.json",
    "training.json",
    "model",
    "train_log.jsonl",
)
_SHOWN_RUNS = 12
NO_RESULTS = ("published", "demo", "smoke")  # folders of outputs/ whose runs are neither published nor in `make status`


def folder(outputs: Path, dataset: str, job: str, variant: str, last: str) -> Path:
    """Return the path of a run folder; `last` is "seed-<n>" or "baseline-<name>"."""
    return outputs / dataset / job / variant / last if variant else outputs / dataset / job / last


def create_run(path: Path, config: RunConfig, command: str) -> None:
    """Create the run folder with its config.yaml, or check that the config of an existing one agrees.

    Args:
        path: the run folder.
        config: the current config.
        command: how to start over, for the message.

    Raises:
        RunError: the run's recorded config differs; the message lists the differences.
    """
    if (path / CONFIG).exists():
        changes = differences(load_run_config(path), config)
        if changes:
            raise RunError(
                f"{path}: the run was created with another configuration:\n  "
                + "\n  ".join(changes)
                + f"\nStart over (the old run is kept beside it) with: {command} FORCE=1"
            )
    else:
        write_text(path / CONFIG, yaml_io.dump(config.plain()))


def archive_run(path: Path) -> Path | None:
    """Rename a run folder to `<name>.replaced-<UTC time>`; return the new path, None where there is no run."""
    if not (path / CONFIG).exists():
        return None
    if holder := run_lock.running_holder(path):
        raise RunError(run_lock.held_message(path, holder))
    stamp = f"{path.name}.replaced-{utc_now().replace(':', '').replace('-', '')}"
    archived = path.with_name(stamp)
    number = 1
    while archived.exists():  # twice within a second
        number += 1
        archived = path.with_name(f"{stamp}-{number}")
    with write_errors(archived):
        path.rename(archived)
    return archived


def load_run_config(path: Path) -> RunConfig:
    """Return a run's recorded config; keys that were added to the schema since then take their defaults.

    Raises:
        RunError: there is no run in that folder.
    """
    return run_config_of(read_config(path), path / CONFIG)


def read_config(path: Path) -> dict[str, Any]:
    """Return the content of a run's config.yaml; a `RunError` where there is none or it is damaged."""
    file = path / CONFIG
    if not file.exists():
        raise RunError(f"{path}: there is no run here (no {CONFIG}).")
    try:
        return yaml_io.read(file)
    except ConfigError as error:
        raise RunError(f"{error} The run's config is damaged. {_fix(path)}") from error


def run_config_of(document: dict[str, Any], file: Path) -> RunConfig:
    """Return the recorded config that is the content of a config.yaml; a `RunError` where it is none."""
    fix = _fix(file.parent)
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
            max_train_samples=data.get("max_train_samples"),
            shots=run.get("shots"),
            dropped_rows_count=data.get("dropped_rows_count"),
            folds=Folds(**data["folds"]) if "folds" in data else None,
            sampling=data.get("sampling", STRATIFIED),
        )
    except KeyError as error:
        raise RunError(f"{file}: not the config of a run: {error} is missing. {fix}") from error
    except (TypeError, AttributeError) as error:
        raise RunError(f"{file}: not the config of a run: {error}. {fix}") from error


def _fix(path: Path) -> str:
    return f"Put the old file back, or move {path} away and start again."


def trained_runs(outputs: Path, dataset: str, job: str) -> list[Path]:
    """Return the folders of a job's runs on a dataset that hold a trained model, of every variant and seed."""
    place = folder(outputs, dataset, job, "", "")
    files = sorted([*place.glob(f"*/{TRAINING}"), *place.glob(f"*/*/{TRAINING}")])  # without and with a variant
    return [file.parent for file in files if ".replaced-" not in file.parent.name and (file.parent / MODEL).is_dir()]


def check_trained(path: Path, command: str, find_others: Callable[[], Sequence[Path]] = tuple) -> None:
    """Raise a `RunError` when the run folder holds no trained model.

    Args:
        path: the run folder.
        command: what trains it.
        find_others: returns runs that the user may have meant; called only for the message.
    """
    if (path / CONFIG).exists() and (baseline := load_run_config(path).baseline):
        raise RunError(f"{path}: this is the baseline '{baseline}'; a baseline keeps no model. Use a trained run.")
    if not ((path / MODEL).is_dir() and (path / TRAINING).is_file()):
        found = "the run is not finished" if (path / CONFIG).exists() else "there is no such run"
        others = find_others()
        lines = [f"  {other}" for other in others[:_SHOWN_RUNS]]
        lines += [f"  … ({len(others)} in all)"] if len(others) > _SHOWN_RUNS else []
        there = ["Trained runs of this job on this dataset:", *lines] if others else []
        raise RunError("\n".join([f"{path}: {found}, so it has no model yet. Train it first: {command}", *there]))


def load_matching_config(path: Path, current: RunConfig) -> RunConfig:
    """Return a run's recorded config after a check that the job's current config agrees; rows are not compared.

    Raises:
        RunError: the job differs; the message lists the differences.
    """
    recorded = load_run_config(path)
    if changes := differences(recorded, dataclasses.replace(current, data_sha256=recorded.data_sha256)):
        raise RunError(
            f"{path}: the run was created with another configuration:\n  " + "\n  ".join(changes) + "\n"
            f"Use the run as it is with: RUN={path}"
        )
    return recorded


def check_same_data(path: Path, config: RunConfig, data_sha256: str) -> None:
    """Raise a `RunError` when the rows are not those that a run was created with.

    Args:
        path: the run folder.
        config: its recorded config.
        data_sha256: of the rows as they are now.
    """
    if data_sha256 != config.data_sha256:
        source = config.data_dir or f"the source of the dataset '{config.dataset_name}'"
        raise RunError(
            f"{path}: the rows have changed since the run was created: their SHA-256 was {config.data_sha256}, that of "
            f"{source} is {data_sha256}. Put the old rows back, or start over from its job, with FORCE=1."
        )


def is_finished(path: Path) -> bool:
    """Return whether the run succeeded: a damaged metrics.json is none, and the same command writes it again."""
    return bool(read_object(path / METRICS))


def training_facts(path: Path) -> dict[str, Any]:
    """Return the content of a trained run's training.json.

    Raises:
        RunError: it is missing or damaged.
    """
    return require_object(path / TRAINING, ("params_trainable_count",), "Train again: the same command with FORCE=1.")


def headline(document: Metrics, split: str) -> str:
    """Return metrics in one line for the terminal: the dataset's leading score, accuracy and macro F1."""
    if not is_of(document.get("score"), str):
        return f"{split}: its metrics are incomplete; make evaluate writes them again"
    names = dict.fromkeys([document["score"].removeprefix(f"{split}_"), "accuracy", "f1_macro"])
    figures = ", ".join(f"{name} {value(document, f'{split}_{name}'):.4f}" for name in names)
    return f"{split} (n={value(document, f'{split}_n')}): {figures}"


def this_command() -> str:
    """Return the command line of this process, quoted for a shell."""
    return shlex.join(["python", *sys.argv])
