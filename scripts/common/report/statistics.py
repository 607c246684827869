"""Statistics of results, computed once: intervals and paired tests are kept by the content they are computed from."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.core.errors import NotWritable
from common.core.files import read_json, sha256, write_json
from common.evaluation import intervals as bootstrap
from common.evaluation import paired_tests, power_law, resampling
from common.evaluation.intervals import Interval
from common.evaluation.outcomes import Outcomes
from common.evaluation.paired_tests import Difference
from common.evaluation.power_law import Forecast, Law
from common.evaluation.resampling import Units
from common.runs.documents import Metrics, value

_VERSION = 1  # of the methods: another one computes everything again
FOLDER = ".cache/statistics"  # below an outputs folder; git-ignored


class Cache:
    """Keeps computed statistics in memory, and in a folder where one is given.

    Args:
        folder: holds a JSON file per computation, named after the hash of its input.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.memory: dict[str, Any] = {}

    def value(self, key: str, compute: Callable[[int], Any]) -> Any:
        """Return what `compute` returns for a seed made from the key; it must be a JSON value."""
        if key in self.memory:
            return self.memory[key]
        file = self.folder / key[:2] / f"{key[2:]}.json" if self.folder else None
        try:
            found = read_json(file) if file else None
        except (OSError, ValueError):  # not there, or a broken file: it is computed again
            found = None
        if found is None:
            found = compute(int(key[:16], 16))
            if file:
                with contextlib.suppress(NotWritable):  # the report says where it cannot write
                    write_json(file, found, durable=False)
        self.memory[key] = found
        return found


def units_of(
    documents: Sequence[Metrics], outcomes: Sequence[Outcomes | None], split: str = "test", rows_alone: bool = False
) -> Units | None:
    """Return the units of a result's seeds together, None where they are not known.

    Of a single seed the confusion matrix is enough, unless groups of rows are drawn.

    Args:
        documents: the metrics of every seed.
        outcomes: of the rows of a split, by seed.
        split: its name.
        rows_alone: whether rows are drawn, also where they have many groups.
    """
    first, *others = outcomes or (None,)
    known = [one for one in (first, *others) if one is not None and first and one.rows_sha256 == first.rows_sha256]
    if first and len(known) == len(documents):
        predicted = np.stack([one.predicted for one in known])
        return resampling.units(first.gold, predicted, first.classes, None if rows_alone else first.groups)
    document = documents[0]
    if len(documents) > 1 or value(document, f"{split}_confusion") is None:
        return None
    if not rows_alone and len(value(document, f"{split}_groups") or {}) >= resampling.MIN_GROUPS:
        return None
    return resampling.units_of_confusion(confusion_of(document, split))


def confusion_of(document: Metrics, split: str = "test") -> np.ndarray:
    """Return counts (C, C + 1) of a split's rows: gold by predicted, the last column for generated texts of no label.

    `<split>_confusion` lacks that column.
    """
    confusion = np.array(value(document, f"{split}_confusion"))
    support = np.array([label["support"] for label in value(document, f"{split}_per_label").values()])
    return np.column_stack([confusion, support - confusion.sum(axis=1)])


def intervals(units: Units, names: Sequence[str], mean_f1_of: Sequence[int], cache: Cache) -> dict[str, Interval]:
    """Return `evaluation.intervals.intervals`, from the cache where it was computed before."""
    key = _key("intervals", bootstrap.DRAWS, list(names), list(mean_f1_of), units)
    found = cache.value(
        key,
        lambda seed: {
            name: dataclasses.asdict(one) for name, one in bootstrap.intervals(units, names, mean_f1_of, seed).items()
        },
    )
    return {name: Interval(**one) for name, one in found.items()}


def difference(
    units: Units,
    first: int,
    name: str,
    mean_f1_of: Sequence[int],
    seed_variances: tuple[float, float],
    family: int,
    cache: Cache,
) -> Difference:
    """Return `evaluation.paired_tests.permutation`, from the cache where it was computed before."""
    draws = [paired_tests.PERMUTATIONS, paired_tests.DRAWS, family]
    key = _key("difference", draws, first, name, list(mean_f1_of), list(seed_variances), units)

    def compute(seed: int) -> dict[str, Any]:
        found = paired_tests.permutation(units, first, name, mean_f1_of, seed_variances, seed, family)
        return dataclasses.asdict(found)

    return Difference(**cache.value(key, compute))


def forecast(
    units: Units, sizes: Sequence[int], name: str, mean_f1_of: Sequence[int], more: int, cache: Cache
) -> Forecast:
    """Return `evaluation.power_law.forecast`, from the cache where it was computed before."""
    key = _key("forecast", power_law.DRAWS, list(sizes), name, list(mean_f1_of), more, units)

    def compute(seed: int) -> dict[str, Any]:
        return dataclasses.asdict(power_law.forecast(units, sizes, name, mean_f1_of, more, seed))

    found = cache.value(key, compute)
    return Forecast(**found | {"law": Law(**found["law"])})


def _key(*parts: Any) -> str:
    """Return the hash of everything that a computation depends on; units come last."""
    *plain, units = parts
    header = json.dumps([_VERSION, *plain, units.grouped, units.counts.shape])
    numbers = [np.ascontiguousarray(array, dtype="<f8").tobytes() for array in (units.numbers, units.counts)]
    return sha256(header.encode() + b"".join(numbers))
