"""What is drawn when test rows are resampled: rows, or groups of rows that depend on each other.

Rows with the same gold label and the same predictions by all models are equal for every score. So a draw of N rows with
replacement is one draw of multinomial counts over the K different kinds of rows, and K is small: a bootstrap of 25,000
rows takes as long as one of 200.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from common.evaluation.label_counts import GOLD, PREDICTED, RIGHT

MIN_GROUPS = 20  # fewer groups say too little about how groups differ
_NUMBERS_AT_ONCE = 2**23  # 64 MB of float64


@dataclasses.dataclass(frozen=True, eq=False)
class Units:
    """K kinds of units, which are drawn.

    Attributes:
        numbers: (K,) how many units are of each kind.
        counts: (K, S, 3, C) what one unit adds to the counts per label (`label_counts`) of each of S models.
        grouped: whether a unit is a group of rows, not a row.
    """

    numbers: np.ndarray
    counts: np.ndarray
    grouped: bool = False

    @property
    def models(self) -> int:
        """The number S of models."""
        return int(self.counts.shape[1])

    def total(self) -> np.ndarray:
        """Return the counts (S, 3, C) of all units."""
        return np.tensordot(self.numbers.astype(float), self.counts, 1)

    def drawn(self, rng: np.random.Generator, times: int) -> Iterator[np.ndarray]:
        """Yield counts (T, S, 3, C) of samples with replacement, `times` samples in all, as many units as there are."""
        flat = self.counts.reshape(len(self.numbers), -1)
        shares, drawn = self.numbers / self.numbers.sum(), int(self.numbers.sum())
        for many in _chunks(times, max(flat.shape)):
            yield (rng.multinomial(drawn, shares, size=many) @ flat).reshape(many, *self.counts.shape[1:])

    def alike(self) -> "Units":
        """Return the same units, equal ones as one kind: fewer kinds are drawn faster."""
        flat = self.counts.reshape(len(self.numbers), -1)
        kinds, kind_of = np.unique(flat, axis=0, return_inverse=True)
        numbers = np.bincount(kind_of.ravel(), weights=self.numbers).astype(np.int64)
        return Units(numbers, kinds.reshape(-1, *self.counts.shape[1:]), self.grouped)

    def without_one(self) -> np.ndarray:
        """Return counts (K, S, 3, C) of all units but one of each kind."""
        return self.total() - self.counts


def units(gold: np.ndarray, predicted: np.ndarray, classes: int, groups: np.ndarray | None) -> Units:
    """Return the units of N rows: the rows, or their groups where there are at least `MIN_GROUPS`.

    Args:
        gold: (N,) places of gold labels.
        predicted: (S, N) places of predicted labels; C where there is none.
        classes: number of labels C.
        groups: (N,) numbers of groups, from 0 without gaps; None without groups.
    """
    kinds, kind_of, numbers = np.unique(np.vstack([gold, predicted]), axis=1, return_inverse=True, return_counts=True)
    counts = _counts_of_kinds(kinds[0], kinds[1:], classes)
    if not by_group(groups):
        return Units(numbers, counts)
    assert groups is not None
    how_often = np.zeros((int(groups.max()) + 1, len(numbers)))
    np.add.at(how_often, (groups, kind_of.ravel()), 1)
    return Units(np.ones(len(how_often), dtype=np.int64), np.tensordot(how_often, counts, 1), grouped=True)


def by_group(groups: np.ndarray | None) -> bool:
    """Return whether groups are drawn, not rows."""
    return groups is not None and len(np.unique(groups)) >= MIN_GROUPS


def units_of_confusion(confusion: np.ndarray) -> Units:
    """Return the units of the rows of one model by its confusion matrix (C, C + 1), which is all that a score needs."""
    gold, predicted = np.nonzero(confusion)
    return Units(confusion[gold, predicted], _counts_of_kinds(gold, predicted[None], len(confusion)))


def _counts_of_kinds(gold: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return counts (K, S, 3, C) of K rows with gold labels (K,) and predictions (S, K)."""
    labels = np.arange(classes)
    counts = np.zeros((len(gold), len(predicted), 3, classes))
    is_gold, is_predicted = gold[:, None, None] == labels, predicted.T[:, :, None] == labels  # (K, 1, C), (K, S, C)
    counts[:, :, GOLD], counts[:, :, PREDICTED], counts[:, :, RIGHT] = is_gold, is_predicted, is_gold & is_predicted
    return counts


def _chunks(times: int, width: int) -> Sequence[int]:
    most = max(1, _NUMBERS_AT_ONCE // max(width, 1))
    return [min(most, times - start) for start in range(0, times, most)]
