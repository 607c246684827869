"""95 % intervals of scores by the bootstrap: BCa where it can be computed, else percentile.

Rows (or groups) are drawn with replacement, the same ones for all seeds. In the same draw the mean over seeds moves by
what seeds differ in beyond their rows: with the two to five seeds that people train, drawing from the seeds themselves
gives intervals that are far too short, so this part has Student's t distribution with S - 1 degrees of freedom. An
interval of one seed holds for that trained model.

BCa: B. Efron, Better Bootstrap Confidence Intervals, JASA 82 (1987).
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from common.evaluation import label_counts
from common.evaluation.resampling import Units

DRAWS = 9_999
LEVEL = 0.95
_LOWEST = {"matthews_corrcoef": -1.0}


@dataclasses.dataclass(frozen=True)
class Interval:
    """A score with its 95 % interval.

    Attributes:
        value: the mean over seeds.
        low, high: the ends; None where the score has none.
        seed_variance: of the mean over seeds, from what seeds differ in beyond their rows; 0 with one seed.
        method: "BCa", "percentile", or "exact" where no row or every row is right.
    """

    value: float
    low: float
    high: float
    seed_variance: float
    method: str


def intervals(units: Units, names: Sequence[str], mean_f1_of: Sequence[int], seed: int) -> dict[str, Interval]:
    """Return the interval of each score; a score that is not defined for the rows is left out.

    Args:
        units: of S seeds of one result.
        names: of scores, as in `label_counts.score`.
        mean_f1_of: places of the labels that f1_mean_labels averages.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for counts in units.drawn(rng, DRAWS):
        for name in names:
            found[name].append(label_counts.score(counts, name, mean_f1_of))
    shift = rng.standard_t(max(units.models - 1, 1), size=DRAWS)
    total, others = units.total(), units.without_one()
    result = {}
    for name in names:
        seeds = label_counts.score(total, name, mean_f1_of)  # (S,)
        if not np.isfinite(seeds).all():
            continue
        replicates = np.concatenate(found[name])  # (B, S)
        replicates = replicates[np.isfinite(replicates).all(axis=1)]
        with np.errstate(invalid="ignore"):  # without its only row nothing has a score
            left_out = label_counts.score(others, name, mean_f1_of).mean(axis=1)  # (K,)
        result[name] = _interval(units, name, seeds, replicates, left_out, shift[: len(replicates)])
    return result


def _interval(
    units: Units, name: str, seeds: np.ndarray, replicates: np.ndarray, left_out: np.ndarray, shift: np.ndarray
) -> Interval:
    value, rows = float(seeds.mean()), int(units.total()[0, label_counts.GOLD].sum())
    if np.ptp(seeds) == 0 and np.ptp(replicates) == 0 and value in ((1.0,) if name in _LOWEST else (0.0, 1.0)):
        if name.startswith(label_counts.ERROR_RATE):
            rows = int(units.total()[0, label_counts.GOLD, int(name.removeprefix(label_counts.ERROR_RATE))])
        # Clopper and Pearson: no row is wrong, or none is right.
        reach = 1 - ((1 - LEVEL) / 2) ** (1 / (int(units.numbers.sum()) if units.grouped else rows))
        low, high = (1 - reach, 1.0) if value else (0.0, reach)
        return Interval(value, low, high, 0.0, "exact")
    variance = seed_variance(seeds, replicates)
    means = replicates.mean(axis=1)
    spread = float(means.std())
    if units.grouped:  # the bootstrap of few units is too narrow; rows are many
        means = value + small_sample_factor(int(units.numbers.sum())) * (means - value)
    means = means + math.sqrt(variance) * shift
    share_of_rows = spread / math.hypot(spread, math.sqrt(variance)) if spread else 0.0
    quantiles, method = _bca_quantiles(means, value, left_out, units.numbers, share_of_rows)
    ends = np.quantile(means, quantiles)
    low, high = max(_LOWEST.get(name, 0.0), float(ends[0])), min(1.0, float(ends[1]))
    return Interval(value, low, high, variance, method)


def unpaired_difference(first: Interval, second: Interval) -> tuple[float, float]:
    """Return the 95 % interval of the first score minus the second one, which are of different rows.

    Each end is as far from the difference as the two scores' own ends together, by the root of the sum of squares. So
    it is as sound as their intervals where scores lie near 0 or 1, also where one side has no error.

    Sources: R. Newcombe, Statistics in Medicine 17 (1998), for two proportions; G. Zou and A. Donner, Statistics in
    Medicine 27 (2008), for any two scores.
    """
    value = first.value - second.value
    low = value - math.hypot(first.value - first.low, second.high - second.value)
    high = value + math.hypot(first.high - first.value, second.value - second.low)
    return low, high


def small_sample_factor(units: int) -> float:
    """Return by how much Student's interval of so many units is wider than the bootstrap's."""
    tail = (1 + LEVEL) / 2
    return float(math.sqrt(units / (units - 1)) * special.stdtrit(units - 1, tail) / special.ndtri(tail))


def seed_variance(seeds: np.ndarray, replicates: np.ndarray) -> float:
    """Return the variance of the mean over S seeds, from what seeds differ in beyond their rows.

    Seeds differ also because they err on different rows of a small test set. The bootstrap of rows (B, S) contains
    that part, so it is subtracted.
    """
    count = len(seeds)
    if count == 1 or np.ptp(seeds) == 0:
        return 0.0
    apart = replicates - replicates.mean(axis=1, keepdims=True)
    by_rows = float(apart.var(axis=0).sum()) / (count - 1)
    return max(0.0, float(seeds.var(ddof=1)) - by_rows) / count


def _bca_quantiles(
    draws: np.ndarray, value: float, left_out: np.ndarray, numbers: np.ndarray, share_of_rows: float
) -> tuple[np.ndarray, str]:
    """Return the two quantiles of the draws (B,) that are the ends, and whether they are those of BCa.

    Args:
        draws: of the score.
        value: the score itself.
        left_out: (K,) scores without one unit of each kind (the jackknife).
        numbers: (K,) of units of each kind.
        share_of_rows: of the draws' standard deviation that is due to the units.
    """
    tails = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    below = (np.sum(draws < value - 1e-12) + np.sum(draws <= value + 1e-12)) / 2 / len(draws)
    bias = special.ndtri(below)
    apart = np.average(left_out, weights=numbers) - left_out
    squares = float((numbers * apart**2).sum())
    if not (math.isfinite(bias) and squares > 0):
        return tails, "percentile"
    skewness = float((numbers * apart**3).sum()) / (6 * squares**1.5) * share_of_rows**3
    normal = bias + special.ndtri(tails)
    scale = 1 - skewness * normal
    if (scale <= 0).any():
        return tails, "percentile"
    return special.ndtr(bias + normal / scale), "BCa"
