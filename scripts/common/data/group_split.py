"""Cut a split off train by group: all rows of one group, such as a topic or an author, stay in one split."""

import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from common.config.label_values import Label
from common.core.errors import DataError, choices
from common.data.rows import Row, Rows

_SHUFFLES = 20  # random choices of groups that are compared
_FOLDS = 10  # a fraction such as 0.3 is three folds of ten


def cut_groups(rows: Sequence[Row], share: float, labels: Sequence[Label], seed: int) -> tuple[list[Row], list[Row]]:
    """Return (rows that stay in train, rows of the new split), both in the order of `rows`.

    Of the cuts that scikit-learn's `StratifiedGroupKFold` and `GroupShuffleSplit` propose, the one is taken that is
    nearest to the share and to the balance of the labels, and leaves rows of every label in train. Single groups are
    then moved as long as that brings it nearer.

    Args:
        rows: N train rows with groups.
        share: fraction of `rows` for the new split.
        labels: of the dataset, for the message.
        seed: the same seed gives the same cut.

    Raises:
        DataError: there is one group only, or every cut leaves train without a label.
    """
    names, group_of = np.unique([str(row.group) for row in rows], return_inverse=True)
    if len(names) < 2:
        raise DataError(
            f"splits.by is group, but all {len(rows)} train rows have the group '{names[0]}': they cannot be divided."
        )
    gold = np.array([row.label for row in rows], dtype=int)
    counts = np.zeros((len(names), len(labels)), dtype=int)  # (G, C) rows by group and label
    np.add.at(counts, (group_of, gold), 1)
    best = _improved(np.array(list(_proposals(gold, group_of, len(names), share, seed))), counts, share)
    kept, cut = ([row for row, group in zip(rows, group_of, strict=True) if best[group] == is_cut] for is_cut in (0, 1))
    if lost := sorted(set(gold.tolist()) - {row.label for row in kept}):
        raise DataError(
            "splits.by is group, but every cut by group takes all rows of a label out of train: too few groups have "
            f"rows of {choices(labels[index] for index in lost)}. Leave `by` out, or give files of your own."
        )
    return kept, cut


def _proposals(gold: np.ndarray, group_of: np.ndarray, groups: int, share: float, seed: int) -> Iterator[np.ndarray]:
    """Iterate over masks (G,) of the groups that may become the split, in a fixed order; gold and group_of are (N,)."""
    from sklearn.model_selection import GroupShuffleSplit  # a second to import

    for count in dict.fromkeys((min(groups, max(2, round(1 / share))), min(groups, _FOLDS))):
        folds = _folds(gold, group_of, count, seed)
        width = min(max(1, round(share * count)), count - 1)
        for start in range(len(folds)):
            chosen = [folds[(start + step) % count] for step in range(width)]
            yield _mask(np.concatenate(chosen), group_of, groups)
    size = min(max(1, round(share * groups)), groups - 1)
    for _, places in GroupShuffleSplit(_SHUFFLES, test_size=size, random_state=seed).split(gold, groups=group_of):
        yield _mask(places, group_of, groups)


def _folds(gold: np.ndarray, group_of: np.ndarray, count: int, seed: int) -> list[np.ndarray]:
    """Return the rows of each of `count` folds with like labels; [] where every label has fewer rows than that."""
    from sklearn.model_selection import StratifiedGroupKFold

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a label with fewer rows than folds
        try:
            folds = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
            return [places for _, places in folds.split(gold, gold, group_of)]
        except ValueError:
            return []


def _mask(places: np.ndarray, group_of: np.ndarray, groups: int) -> np.ndarray:
    mask = np.zeros(groups, dtype=int)
    mask[group_of[places]] = 1
    return mask


def _improved(proposals: np.ndarray, counts: np.ndarray, share: float) -> np.ndarray:
    """Return the cheapest of the masks (P, G), after moving single groups into or out of it while that is cheaper."""
    costs = _costs(proposals @ counts, counts, share)
    mask, cost = proposals[costs.argmin()].copy(), costs.min()
    while True:
        moved = mask @ counts + np.where(mask == 1, -1, 1)[:, None] * counts  # (G, C), one group moved in each row
        costs = _costs(moved, counts, share)
        if costs.min() >= cost - 1e-9:
            return mask
        cost, place = costs.min(), costs.argmin()
        mask[place] = 1 - mask[place]


def _costs(cut: np.ndarray, counts: np.ndarray, share: float) -> np.ndarray:
    """Return how far cuts are from what was asked, (M,) for label counts (M, C); below 2 where train keeps every label.

    The sum of the difference of sizes and of the total variation distance of the labels, each in [0, 1].
    """
    whole, sizes = counts.sum(axis=0), cut.sum(axis=1)
    lost = ((cut == whole) & (whole > 0)).sum(axis=1)
    balance = np.abs(cut / np.maximum(sizes, 1)[:, None] - whole / whole.sum()).sum(axis=1) / 2
    return np.where(sizes == 0, np.inf, 2 * lost + np.abs(sizes / whole.sum() - share) + balance)


def find_shared_groups(rows: Rows) -> str | None:
    """Return a warning where validation has groups of train and test has none of them; None otherwise.

    Validation scores are then those of known groups, test scores those of new ones.
    """
    train, validation, test = ({row.group for row in rows.get(name, [])} for name in ("train", "validation", "test"))
    shared = train & validation
    if None in train or not shared or not test or test & (train | validation):
        return None
    return (
        f"validation shares {len(shared)} of its {len(validation)} groups with train, and test has other groups alone: "
        "validation scores will be higher than test scores, and the checkpoint is chosen for known groups. Divide by "
        "group: splits: {fractions: {validation: 0.1}, by: group}."
    )
