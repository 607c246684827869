"""Which runs a command line means: a job's variants and seeds, or every job's, with their baselines.

for wanted in of_job(arguments): …           MODEL=, SEEDS=, SET=, BASELINE=
found, left_out = of_all(arguments)          JOBS=
"""

import argparse
import copy
import dataclasses
import fnmatch
from collections.abc import Callable
from pathlib import Path

from common.cli import sweeps
from common.cli.target import Classical, make_command, resolve_target, run_command
from common.config import catalog
from common.config.dataset import Dataset
from common.config.job import Job
from common.core.errors import ConfigError, DataError, PeftableError, choices
from common.data.load import check_splits, load_rows
from common.data.rows import Rows, rows_fingerprint
from common.runs.run_config import RunConfig

CLASSICAL = ("majority", "tfidf")
MODEL_BASELINES = {"classification": "untuned", "prompt": "zero-shot"}  # by head


@dataclasses.dataclass(frozen=True)
class RunSpec:
    """One run that is to be there in the end.

    Attributes:
        folder: of the run.
        verb: the script that carries it out, "train" or "baseline".
        job: None for a classical baseline, which needs no GPU.
        command: what a person would type instead.
        fetch: what downloads its model and rows.
        configure: hash of the rows → the configuration to freeze.
    """

    folder: Path
    verb: str
    job: Job | None
    dataset_name: str
    dataset: Dataset
    data_dir: Path | None
    command: str
    fetch: str
    configure: Callable[[str], RunConfig]


@dataclasses.dataclass(frozen=True)
class Skipped:
    """What cannot be submitted, and why."""

    name: str
    reason: str


def runs_of_job(arguments: argparse.Namespace) -> list[RunSpec]:
    """Return the runs of one job: its variants × seeds, or its baseline where `arguments.baseline` names one."""
    if arguments.baseline is not None:
        return [_baseline(arguments, arguments.baseline)]
    return [_trained(_with(variant, seed=seed)) for variant in sweeps.variants(arguments) for seed in arguments.seeds]


def runs_of_all_jobs(arguments: argparse.Namespace) -> tuple[list[RunSpec], list[Skipped]]:
    """Return the runs of every job that JOBS= means, baselines first, and the jobs that cannot be read.

    Raises:
        ConfigError: JOBS= means none.
    """
    patterns = [pattern for pattern in arguments.jobs.replace(",", " ").split() if pattern]
    available = catalog.names(catalog.JOBS)
    for pattern in patterns:
        if not fnmatch.filter(available, pattern):
            raise ConfigError(f"JOBS={pattern}: no job of that name. Available: {choices(available, 40)}.")
    found: dict[Path, RunSpec] = {}
    left_out = []
    for name in available:
        if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
            continue
        own = _with(arguments, model=name)
        try:
            head = catalog.load_job(name, {})[0].head
            baselines = [*CLASSICAL, MODEL_BASELINES[head]]
            members = [*(_baseline(own, baseline) for baseline in baselines), *runs_of_job(_with(own, baseline=None))]
        except PeftableError as error:
            left_out.append(Skipped(name, str(error)))
            continue
        for wanted in members:
            found.setdefault(wanted.folder, wanted)
    return sorted(found.values(), key=lambda wanted: wanted.verb), left_out


def _with(arguments: argparse.Namespace, **changes: object) -> argparse.Namespace:
    changed = copy.copy(arguments)
    vars(changed).update(changes)
    return changed


def _trained(arguments: argparse.Namespace) -> RunSpec:
    target = resolve_target(arguments)
    return RunSpec(
        target.folder(arguments.outputs, f"seed-{arguments.seed}"),
        "train",
        target.job,
        target.dataset_name,
        target.dataset,
        target.data_dir,
        run_command("train", arguments),
        _fetch(arguments),
        lambda sha256: target.config(arguments.seed, sha256),
    )


def _baseline(arguments: argparse.Namespace, name: str) -> RunSpec:
    arguments = _with(arguments, seed=1)
    target = resolve_target(arguments)
    command = run_command("baseline", arguments) + f" BASELINE={name}"
    place = target.dataset_name, target.dataset, target.data_dir
    commands = command, _fetch(arguments)
    if name in CLASSICAL:
        classical = Classical(*place, name)
        return RunSpec(classical.folder(arguments.outputs), "baseline", None, *place, *commands, classical.config)
    own = MODEL_BASELINES[target.job.head]
    if name != own:
        raise ConfigError(f"BASELINE={name}: {target.job_name} has head {target.job.head}, whose baseline is {own}.")
    folder = target.folder(arguments.outputs, f"baseline-{name}")
    return RunSpec(folder, "baseline", target.job, *place, *commands, lambda sha256: target.config(1, sha256, name))


def _fetch(arguments: argparse.Namespace) -> str:
    return make_command("fetch", model=arguments.model, dataset=arguments.dataset, set=" ".join(arguments.set))


class Fingerprints:
    """Hashes of data sets' rows, each read once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Path | None], tuple[str, Rows] | DataError] = {}

    def of(self, wanted: RunSpec) -> str:
        """Return the hash of a run's rows.

        Raises:
            DataError: they are not there, not what the dataset's YAML says, or a split that the run needs is missing.
        """
        key = wanted.dataset_name, wanted.data_dir
        if key not in self._known:
            try:
                rows = load_rows(wanted.dataset, wanted.data_dir)
                self._known[key] = rows_fingerprint(rows), {split: members[:1] for split, members in rows.items()}
            except DataError as error:
                self._known[key] = error
        found = self._known[key]
        if isinstance(found, DataError):
            raise found
        sha256, first_rows = found
        check_splits(first_rows, wanted.verb == "train")
        return sha256
