"""Test whether two results on the same rows differ: exact McNemar, paired permutation; and Holm's correction.

Sources: Q. McNemar, Psychometrika 12 (1947); S. Holm, Scandinavian Journal of Statistics 6 (1979); the permutation test
is the approximate randomization of A. Yeh, More accurate tests for the statistical significance of result differences
(2000). Where a group of rows is the unit, its rows change sides together.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from common.evaluation import label_counts
from common.evaluation.intervals import LEVEL
from common.evaluation.resampling import Units

PERMUTATIONS, DRAWS = 9_999, 9_999
LEVEL_OF_TESTS = 0.05
_SAME = 1e-9  # differences below it come from rounding


@dataclasses.dataclass(frozen=True)
class Discordant:
    """The rows on which exactly one of two models is right, and the exact McNemar test of them.

    Attributes:
        first, second: rows that only this model judges right.
        p: two-sided.
    """

    first: int
    second: int
    p: float


def mcnemar(gold: np.ndarray, first: np.ndarray, second: np.ndarray) -> Discordant:
    """Return the exact McNemar test of two models' predictions (N,) for gold labels (N,)."""
    only_first = int(((first == gold) & (second != gold)).sum())
    only_second = int(((second == gold) & (first != gold)).sum())
    tail = special.bdtr(min(only_first, only_second), only_first + only_second, 0.5)  # a fair coin
    return Discordant(only_first, only_second, min(1.0, 2 * float(tail)))


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far a result lies above another one, and whether chance explains it.

    Attributes:
        value: the difference of the means over seeds.
        low, high: its 95 % interval (percentile bootstrap of the pairs).
        p: two-sided, of the paired permutation test.
    """

    value: float
    low: float
    high: float
    p: float


def permutation(
    units: Units,
    first: int,
    name: str,
    mean_f1_of: Sequence[int],
    seed_variances: tuple[float, float],
    seed: int,
    family: int = 1,
) -> Difference:
    """Return the difference of two results in one score, with its interval and its paired permutation test.

    Under the null hypothesis the two results are exchangeable on every row, so each row's predictions change sides with
    probability 1/2. A result of several seeds counts by the mean of its seeds. What seeds differ in beyond their rows
    is added with Student's t distribution (Welch), as in `intervals`.

    Args:
        units: of the seeds of both results together.
        first: the number of seeds of the first result; those of the second one follow.
        name: of the score, as in `label_counts.score`.
        mean_f1_of: places of the labels that f1_mean_labels averages.
        seed_variances: of the means over the seeds of both results (`intervals.seed_variance`).
        seed: of the random numbers.
        family: number of tests that are corrected for. Where no permutation reaches the difference, so many more follow
            that p may become smaller than Holm's threshold for the family.
    """
    rng = np.random.default_rng(seed)
    sides = np.stack([units.counts[:, :first].mean(axis=1), units.counts[:, first:].mean(axis=1)], axis=1)
    both = Units(units.numbers, sides, units.grouped)  # (K, 2, 3, C)
    observed = _difference(both.total(), name, mean_f1_of)
    draws = np.concatenate([_difference(drawn, name, mean_f1_of) for drawn in both.drawn(rng, DRAWS)])
    seeds = (first, units.models - first)
    low, high = np.quantile(draws + _shift(rng, seed_variances, seeds, DRAWS), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    reached, done = 0, 0
    for permutations in (PERMUTATIONS, max(0, math.ceil(family / LEVEL_OF_TESTS) - PERMUTATIONS)):
        if reached == 0 and permutations:
            null = _exchanged(both, rng, permutations, name, mean_f1_of)
            null += _shift(rng, seed_variances, seeds, permutations)
            reached += int((np.abs(null) >= abs(observed) - _SAME).sum())
            done += permutations
    return Difference(float(observed), float(low), float(high), (1 + reached) / (1 + done))


def _shift(rng: np.random.Generator, variances: tuple[float, float], seeds: tuple[int, int], size: int) -> np.ndarray:
    """Return what the difference moves by, because other seeds would have been other models."""
    if not sum(variances):
        return np.zeros(size)
    return math.sqrt(sum(variances)) * rng.standard_t(sum(variances) ** 2 / _welch(variances, seeds), size=size)


def _welch(variances: tuple[float, float], seeds: tuple[int, int]) -> float:
    return sum(one**2 / (count - 1) for one, count in zip(variances, seeds, strict=True) if count > 1)


def _difference(counts: np.ndarray, name: str, mean_f1_of: Sequence[int]) -> np.ndarray:
    """Return the score of the first minus that of the second, of counts (..., 2, 3, C)."""
    scores = label_counts.score(counts, name, mean_f1_of)
    return np.asarray(scores[..., 0] - scores[..., 1])


def _exchanged(
    both: Units, rng: np.random.Generator, permutations: int, name: str, mean_f1_of: Sequence[int]
) -> np.ndarray:
    """Return the differences (P,) after random units have changed sides."""
    apart = both.counts[:, 0] - both.counts[:, 1]  # (K, 3, C)
    differ = np.abs(apart).reshape(len(apart), -1).max(axis=1) > 0
    numbers, apart, total = both.numbers[differ], apart[differ], both.total()
    found = []
    step = max(1, 2**22 // max(len(numbers), total[0].size))
    for start in range(0, permutations, step):
        many = min(step, permutations - start)
        changed = rng.binomial(numbers, 0.5, size=(many, len(numbers)))
        moved = (changed @ apart.reshape(len(numbers), total[0].size)).reshape(many, *total.shape[1:])
        found.append(_difference(np.stack([total[0] - moved, total[1] + moved], axis=1), name, mean_f1_of))
    return np.concatenate(found)


def holm(p_values: Sequence[float], family: int | None = None) -> list[float]:
    """Return p values adjusted by Holm's step-down method.

    Args:
        p_values: of the tests.
        family: number of hypotheses that are corrected for, where more than these are. Against the best of k results
            it is k (k - 1) / 2: the best one is known from the same rows, so every pair might have been tested.
    """
    size = len(p_values) if family is None else family
    adjusted, least = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        least = max(least, min(1.0, (size - place) * p_values[index]))
        adjusted[index] = least
    return adjusted
