"""FOLDS=: a request for each fold of a dataset that is divided into folds (`splits.folds`).

for request in expand(variants(request), flags.folds, request.data_dir):   # FOLDS=all, or FOLDS=1,3
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from common.config import catalog
from common.config.dataset import Dataset
from common.config.run_request import CLASSICAL_BASELINES, RunRequest
from common.core.errors import ConfigError
from common.data.folds import count_folds
from common.data.load import load_rows

ALL = "all"


def expand(requests: Sequence[RunRequest], folds: str | None, counts: dict[str, int] | None = None) -> list[RunRequest]:
    """Return each request for each of the folds, with the override that selects it; the requests without FOLDS=.

    Args:
        requests: of runs, or of baselines.
        folds: "all", or numbers such as "1,3"; None without FOLDS=.
        counts: {dataset: number of its folds} of earlier calls with the same DATA_DIR; those found now are added. To
            count groups, all rows are read.

    Raises:
        ConfigError: FOLDS is no such text, the dataset is not divided into folds or has fewer, or SET= names one.
        DataError: the folds are groups, and the rows cannot be read.
    """
    if folds is None:
        return list(requests)
    counts = {} if counts is None else counts
    found = []
    for request in requests:
        if "fold" in request.settings:
            raise ConfigError(f"FOLDS={folds} and SET=fold={request.settings['fold']}: give one of them.")
        name = _dataset_name(request)
        if name not in counts:
            counts[name] = _count(name, request.data_dir)
        for number in _numbers(folds, counts[name], name):
            found.append(dataclasses.replace(request, overrides=(*request.overrides, f"fold={number}")))
    return found


def _dataset_name(request: RunRequest) -> str:
    if request.dataset:
        return request.dataset
    if request.baseline in CLASSICAL_BASELINES and not request.model:
        return ""  # the error about DATASET= is that of the run
    return catalog.load_job(request.model, request.settings)[0].dataset


def _count(name: str, data_dir: Path | None) -> int:
    dataset: Dataset = catalog.load_dataset(name)
    if dataset.splits.folds is None:
        raise ConfigError(f"FOLDS= is given, but data/{name}.yaml does not divide its rows into folds (splits.folds).")
    if isinstance(dataset.splits.folds, int):
        return dataset.splits.folds
    return count_folds(load_rows(dataset, data_dir), dataset)


def _numbers(folds: str, count: int, name: str) -> list[int]:
    if folds.strip() == ALL:
        return list(range(1, count + 1))
    words = folds.replace(",", " ").split()
    if not words or not all(word.isdecimal() and 1 <= int(word) <= count for word in words):
        raise ConfigError(f"FOLDS is '{folds}'; data/{name}.yaml makes {count} folds; allowed: all, or 1 to {count}.")
    return list(dict.fromkeys(map(int, words)))
