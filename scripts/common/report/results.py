"""Load finished runs as results, grouped over seeds and folds."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from common.config.catalog import ROOT
from common.config.variants import flatten, result_settings
from common.core.errors import ReportError
from common.report import finished_runs, folds
from common.report.finished_runs import FinishedRun
from common.report.result import Result
from common.report.statistics import Cache
from common.runs.out_of_fold import variant_without_fold
from common.runs.run_config import RunConfig, differences

PUBLISHED = ROOT / "outputs" / "published"


def load(folder: Path, cache: Cache | None = None) -> list[Result]:
    """Return the results of `load_all` that can be compared: without the points of learning curves."""
    return [result for result in load_all(folder, cache) if result.curve_rows is None]


def load_all(folder: Path, cache: Cache | None = None) -> list[Result]:
    """Return the finished runs below a folder grouped over their seeds, sorted by dataset, baselines first, then job.

    The folds of one job and seed are one run over all rows. A damaged run is left out, and so are folds whose other
    folds are not finished (`left_out`).

    Args:
        folder: an outputs folder, or what is published.
        cache: keeps the statistics of earlier reports.

    Raises:
        ReportError: the seeds of one result have different data or settings.
    """
    cache = cache or Cache()
    results = []
    for key, seeds in _groups(folder, cache).items():
        whole = {seed: runs for seed, runs in seeds.items() if not (key.has_folds and folds.missing(runs))}
        if not whole:
            continue
        _check_alike(key, [run.config for runs in whole.values() for run in runs])
        members = [folds.join(whole[seed]) if key.has_folds else whole[seed][0] for seed in sorted(whole)]
        if len({run.document["score"] for run in members}) > 1:
            raise ReportError(f"{key.text}: its seeds have different leading scores.")
        config = members[0].config
        settings = flatten(result_settings(config.job)) if config.job else config.sample_settings()
        number = folds.count(config) or 0 if key.has_folds else 0
        if settings and number:
            settings = {key: value for key, value in settings.items() if key != "fold"} | {"folds": number}
        documents, rows = tuple(run.document for run in members), tuple(run.outcomes for run in members)
        results.append(
            Result(
                *(key.dataset, key.job, key.variant, key.baseline, documents, settings, rows, number),
                tuple(run.folders for run in members),
                tuple(config.dataset.text),
                tuple(run.folds for run in members) if number else (),
                cache,
            )
        )
    order = {"": 4, "majority": 0, "tfidf": 1, "untuned": 2, "zero-shot": 2}
    return sorted(results, key=lambda r: (r.dataset, order.get(r.baseline, 3), r.job, r.baseline, r.variant, r.folds))


def left_out(folder: Path, cache: Cache) -> list[str]:
    """Return a line for each job and seed whose finished folds are in no table, because others are not finished."""
    lines = []
    for key, seeds in _groups(folder, cache).items():
        for seed, runs in sorted(seeds.items()):
            if key.has_folds and (reason := folds.missing(runs)):
                lines.append(f"{key.text}, seed {seed}: {reason}")
    return lines


class _Key(NamedTuple):
    """What the runs of one result have in common."""

    dataset: str
    job: str
    variant: str  # without the fold
    baseline: str
    has_folds: bool

    @property
    def text(self) -> str:
        return "/".join(filter(None, self[:4]))


def _groups(folder: Path, cache: Cache) -> dict[_Key, dict[int, list[FinishedRun]]]:
    """Return the finished runs below a folder by result and seed; of one seed there are several if they are folds."""
    found: dict[_Key, dict[int, list[FinishedRun]]] = {}
    for run in finished_runs.read_all(folder, cache):
        document = run.document
        baseline = str(document.get("baseline") or "")
        if baseline == "adapter":
            baseline = run.folders[0].name
        if shots := document.get("shots"):
            baseline = f"{baseline} with {shots} examples"
        has_folds = run.config.dataset.splits.fold is not None
        variant = variant_without_fold(run.config) if has_folds else str(document["variant"])
        key = _Key(str(document["dataset"]), str(document["job"]), variant, baseline, has_folds)
        found.setdefault(key, {}).setdefault(document["seed"] or 0, []).append(run)
    return found


def _check_alike(key: _Key, configs: Sequence[RunConfig]) -> None:
    """Raise a `ReportError` where two seeds, of the same fold, differ in more than the seed."""
    firsts: dict[int | None, RunConfig] = {}
    for config in configs:
        first = firsts.setdefault(config.dataset.splits.fold, dataclasses.replace(config, seed=None))
        changes = differences(first, dataclasses.replace(config, seed=None))
        if changes:
            raise ReportError(
                f"{key.text}: its seeds cannot be averaged, they differ in more than the seed:\n  "
                + "\n  ".join(changes)
            )
