"""Divide the rows of a dataset into folds, of which each is the test split of one run.

folds = find_folds(rows, dataset)          # [[places of fold 1], [places of fold 2], …]
"""

import re
import warnings
from collections.abc import Sequence

from common.config.dataset import Dataset, Folds
from common.core.errors import ConfigError, DataError, choices
from common.data.rows import Row, Rows, rows_fingerprint

_PROBLEMS = 5  # that a message names


def select_fold(rows: Rows, dataset: Dataset) -> tuple[Rows, Folds, str]:
    """Return the rows of a dataset whose `splits.fold` is set as {"train": …, "test": …}, all folds, and a note on it.

    The rows of all splits of the source are divided. `test` has those of the fold, `train` all others.

    Raises:
        ConfigError: there is no such fold.
        DataError: the rows cannot be divided, an id occurs in two splits, or train would lack a label that test has.
    """
    every = [row for members in rows.values() for row in members]
    _check_ids(every)
    folds, number = find_folds(every, dataset), dataset.splits.fold
    assert number is not None
    if number > len(folds):
        raise ConfigError(f"fold={number}: the dataset '{dataset.title}' has {len(folds)} folds.")
    chosen = set(folds[number - 1])
    test = [row for place, row in enumerate(every) if place in chosen]
    train = [row for place, row in enumerate(every) if place not in chosen]
    groups = sorted({str(row.group) for row in test if row.group is not None}, key=_natural)
    about = f", group {choices(groups, _PROBLEMS)}" if groups else ""
    divided = {str(one): [every[place] for place in places] for one, places in enumerate(folds, start=1)}
    found = Folds(len(folds), rows_fingerprint(divided))
    return {"train": train, "test": test}, found, f"fold {number} of {len(folds)}: test has {len(test):,} rows{about}"


def find_folds(rows: Sequence[Row], dataset: Dataset) -> list[list[int]]:
    """Return the places in `rows` of each fold; every row is in one fold.

    With `folds: group` a fold is a group, in the order of the groups' names. With a number, folds have like shares of
    the labels, and where the dataset names a group, all rows of a group are in one fold (scikit-learn's
    StratifiedKFold and StratifiedGroupKFold, with `splits.seed`).

    Raises:
        DataError: there are fewer groups, or fewer rows of every label, than folds.
    """
    wanted = dataset.splits.folds
    if wanted == "group":
        by_group: dict[str, list[int]] = {}
        for place, row in enumerate(rows):
            by_group.setdefault(str(row.group), []).append(place)
        if len(by_group) < 2:
            raise DataError(f"splits.folds is group, but all rows have the group {choices(by_group)}.")
        return [by_group[name] for name in sorted(by_group, key=_natural)]
    assert isinstance(wanted, int)
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # a second to import

    gold, groups = [row.label for row in rows], [row.group for row in rows] if dataset.group else None
    if groups and (found := len(set(groups))) < wanted:
        raise DataError(f"splits.folds is {wanted}, but there are {found} groups; allowed are 2 to {found} folds.")
    kind = StratifiedGroupKFold if groups else StratifiedKFold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a label with fewer rows than folds: some folds have none of it
        try:
            parts = list(kind(wanted, shuffle=True, random_state=dataset.splits.seed).split(gold, gold, groups))
        except ValueError as error:
            raise DataError(f"the rows cannot be divided into {wanted} folds: {error}") from error
    return [sorted(places.tolist()) for _, places in parts]


def count_folds(rows: Rows, dataset: Dataset) -> int:
    """Return the number of folds of a dataset with `splits.folds`, whose rows are of any splits."""
    if isinstance(dataset.splits.folds, int):
        return dataset.splits.folds
    return len({row.group for members in rows.values() for row in members})


def _check_ids(rows: Sequence[Row]) -> None:
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise DataError(
                f"the id '{row.id}' occurs in two splits of the source; folds divide all rows, so ids must be unique."
            )
        seen.add(row.id)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts "topic 2" before "topic 10"."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]
