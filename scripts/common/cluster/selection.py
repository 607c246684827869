"""The selection of runs: a job's variants and seeds, or those of all jobs, with their baselines.

for spec in runs_of_job(request, seeds): …                    MODEL=, SEEDS=, SET=, BASELINE=
specs, skipped = runs_of_all_jobs(request, jobs, seeds)       JOBS=
"""

import dataclasses
import fnmatch
from collections.abc import Callable, Sequence
from pathlib import Path

from common.cli import folds as fold_requests
from common.cli import sweeps
from common.cli.target import ClassicalTarget, Target, resolve_baseline, resolve_target, without_job_settings
from common.config import catalog
from common.config.dataset import Dataset
from common.config.job import Job
from common.config.run_request import CLASSICAL_BASELINES, FEW_SHOT, MODEL_BASELINES, RunRequest
from common.core.errors import ConfigError, DataError, PeftableError, choices
from common.data.load import load_rows
from common.data.rows import LoadedRows, rows_fingerprint
from common.data.splits import check_splits
from common.runs.run_config import RunConfig

RowsKey = tuple[str, str, Path | None]  # of `rows_of`


@dataclasses.dataclass(frozen=True)
class RunSpec:
    """One selected run.

    Attributes:
        folder: of the run.
        verb: the script that does the run, "train" or "baseline".
        job: None for a classical baseline, which needs no GPU.
        command: the make command that does the run without a scheduler.
        fetch: the make command that downloads its model and rows.
        configure: returns the run's config for a hash of the rows.
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
    """A job whose runs cannot be selected, and the reason."""

    name: str
    reason: str


def runs_of_job(
    request: RunRequest, seeds: Sequence[int] = (1,), folds: str | None = None, counts: dict[str, int] | None = None
) -> list[RunSpec]:
    """Return the runs of one job: its variants × folds × seeds, or its baseline where the request names one.

    The baseline few-shot has a run for each seed, which draws its examples; the others do not depend on it. `folds` and
    `counts` are those of `cli.folds.expand`.
    """
    if request.baseline:
        each = fold_requests.expand([request], folds, counts)
        drawn = seeds if request.baseline == FEW_SHOT else (request.seed,)
        return [_baseline(dataclasses.replace(one, seed=seed)) for one in each for seed in drawn]
    variants = fold_requests.expand(sweeps.variants(request), folds, counts)
    return [_trained(dataclasses.replace(variant, seed=seed)) for variant in variants for seed in seeds]


def runs_of_all_jobs(
    request: RunRequest, jobs: str = "*", seeds: Sequence[int] = (1,), folds: str | None = None
) -> tuple[list[RunSpec], list[Skipped]]:
    """Return the runs of all jobs, baselines first, and the jobs that cannot be read.

    Args:
        request: dataset, overrides and outputs of all of them.
        jobs: JOBS=, patterns of job names.
        seeds: of each trained run.
        folds: FOLDS=, as `cli.folds.expand` takes it.

    Raises:
        ConfigError: no job has a name of that pattern.
    """
    patterns = [pattern for pattern in jobs.replace(",", " ").split() if pattern]
    available = catalog.names(catalog.JOBS)
    for pattern in patterns:
        if not fnmatch.filter(available, pattern):
            raise ConfigError(f"JOBS={pattern}: no job of that name. Available: {choices(available, 40)}.")
    found: dict[Path, RunSpec] = {}
    skipped, counts = [], dict[str, int]()
    for name in available:
        if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
            continue
        own = dataclasses.replace(request, model=name)
        try:
            baselines = [*CLASSICAL_BASELINES, MODEL_BASELINES[catalog.load_job(name)[0].head][0]]
            each = fold_requests.expand([own], folds, counts)
            resolve_target(each[0])  # a wrong job or override stops its classical baselines, too
            specs = [_baseline(_of_baseline(one, baseline)) for one in each for baseline in baselines]
            specs += runs_of_job(own, seeds, folds, counts)
        except PeftableError as error:
            skipped.append(Skipped(name, str(error)))
            continue
        for spec in specs:
            found.setdefault(spec.folder, spec)
    return sorted(found.values(), key=lambda spec: spec.verb), skipped


def _of_baseline(request: RunRequest, baseline: str) -> RunRequest:
    named = dataclasses.replace(request, baseline=baseline)
    return without_job_settings(named) if baseline in CLASSICAL_BASELINES else named


def _trained(request: RunRequest) -> RunSpec:
    target = resolve_target(request)
    return _spec("train", target, target.job)


def _baseline(request: RunRequest) -> RunSpec:
    target = resolve_baseline(request)
    return _spec("baseline", target, target.job if isinstance(target, Target) else None)


def _spec(verb: str, target: Target | ClassicalTarget, job: Job | None) -> RunSpec:
    request = target.request
    return RunSpec(
        target.folder,
        verb,
        job,
        target.dataset_name,
        target.dataset,
        request.data_dir,
        request.command(verb),
        RunRequest(request.model, request.dataset, request.overrides).command("fetch"),
        target.config,
    )


class Fingerprints:
    """Hashes of the rows of datasets, each read once."""

    def __init__(self) -> None:
        self._known: dict[RowsKey, tuple[str, LoadedRows] | DataError] = {}

    def of(self, spec: RunSpec) -> str:
        """Return the hash of a run's rows.

        Raises:
            DataError: they are missing, differ from the dataset's YAML, or lack a split that the run needs.
        """
        key = rows_of(spec)
        if key not in self._known:
            try:
                rows = load_rows(spec.dataset, spec.data_dir)
                self._known[key] = rows_fingerprint(rows), rows
                for members in rows.values():
                    del members[1:]  # whether there are any is asked again
            except DataError as error:
                self._known[key] = error
        found = self._known[key]
        if isinstance(found, DataError):
            raise found
        sha256, first_rows = found
        check_splits(first_rows, spec.verb == "train")
        return sha256

    def config(self, spec: RunSpec) -> RunConfig:
        """Return the config of a run with what its rows have shown; raises as `of` does."""
        config, found = spec.configure(self.of(spec)), self._known.get(rows_of(spec))
        return config.with_rows(found[1]) if isinstance(found, tuple) else config


def rows_of(spec: RunSpec) -> RowsKey:
    """Return what runs with the same rows have in common: dataset, everything in its YAML, fold, ablation, DATA_DIR."""
    return spec.dataset_name, spec.dataset.model_dump_json(), spec.data_dir
