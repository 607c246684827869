"""What more train rows would bring: a power law fitted to the scores of a learning curve, and how sure it is.

    error(n) = a + b · n^-c,  error = 1 - score

a is the error that no number of rows removes. The form, and weights that grow with the size, are those of R. L.
Figueroa et al., Predicting sample size required for classification performance, BMC Medical Informatics and Decision
Making 12:8 (2012).

For a given c the best a and b are known in closed form, so c is searched on a grid (variable projection, Golub and
Pereyra 1973). That finds the best law of all, and takes a thousand draws no time.

The fit is repeated on scores that are drawn again: from the test rows, the same ones for all sizes; from what seeds
differ in beyond their rows (`intervals`); and from what the sizes differ in beyond the curve, because each of them is
one sample of train rows. The last part has Student's t distribution: it is known from few sizes.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from common.evaluation import label_counts
from common.evaluation.intervals import LEVEL, seed_variance, small_sample_factor
from common.evaluation.resampling import Units

DRAWS = 1_999
MIN_SIZES = 4  # one more than the law has parameters: three scores say nothing about their distance from a curve
MOST_TIMES = 2  # the present rows: no forecast goes further
_EXPONENTS = np.geomspace(0.02, 3, 150)  # candidates of c: from nearly logarithmic to a score that rises no more


@dataclasses.dataclass(frozen=True)
class Law:
    """error(n) = a + b · (n / reference)^-c with a, b ≥ 0; `reference` is the largest size."""

    a: float
    b: float
    c: float
    reference: int

    def error(self, rows: np.ndarray) -> np.ndarray:
        """Return the error at numbers of rows (...)."""
        return _errors(np.array([[self.a, self.b, self.c]]), np.asarray(rows) / self.reference)[0]


@dataclasses.dataclass(frozen=True)
class Forecast:
    """The fitted law, and 95 % intervals.

    Attributes:
        law: fitted to the scores themselves.
        rows: numbers of rows, ascending, which `score`, `low` and `high` belong to; the largest size is one of them.
        score, low, high: by the law, and the ends of the interval of a score that is measured with so many rows. A
            measured score is of one sample of train rows, so it lies at a distance from the law.
        gain, gain_low, gain_high: of the score from the largest size to the given number of further rows.
    """

    law: Law
    rows: list[float] = dataclasses.field(default_factory=list)
    score: list[float] = dataclasses.field(default_factory=list)
    low: list[float] = dataclasses.field(default_factory=list)
    high: list[float] = dataclasses.field(default_factory=list)
    gain: float = 0.0
    gain_low: float = 0.0
    gain_high: float = 0.0


def fit(sizes: np.ndarray, errors: np.ndarray) -> Law:
    """Return the law with the least weighted squares.

    Args:
        sizes: (K,) numbers of train rows, ascending.
        errors: (K,) 1 - score.
    """
    a, b, c = _fit(sizes / sizes[-1], np.asarray(errors)[None])[0].tolist()
    return Law(a, b, c, int(sizes[-1]))


def _fit(shares: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return a, b and c (T, 3) of the laws fitted to errors (T, K) at sizes that are shares (K,) of the largest."""
    weights = _weights(len(shares))
    powers = shares ** -_EXPONENTS[:, None]  # (E, K)
    x_mean, y_mean = powers @ weights, errors @ weights  # (E,), (T,)
    products = (errors * weights) @ powers.T  # (T, E)
    squares = powers**2 @ weights  # (E,)
    slope = (products - y_mean[:, None] * x_mean) / (squares - x_mean**2)
    free = np.stack([y_mean[:, None] - slope * x_mean, slope])  # (2, T, E): a and b
    without_a = np.stack([np.zeros_like(products), products / squares])
    without_b = np.stack([np.broadcast_to(y_mean[:, None], products.shape), np.zeros_like(products)])

    def lack(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The weighted squares but for those of the errors themselves; infinite where a or b is below 0."""
        found = a**2 + b**2 * squares + 2 * (a * b * x_mean - a * y_mean[:, None] - b * products)
        return np.where((a < 0) | (b < 0), np.inf, found)

    candidates = np.concatenate([free, without_a, without_b], axis=-1)  # (2, T, 3E)
    lacks = np.concatenate([lack(*pair) for pair in (free, without_a, without_b)], axis=-1)
    best = lacks.argmin(axis=-1)
    a, b = np.maximum(np.take_along_axis(candidates, best[None, :, None], axis=-1)[..., 0], 0)
    return np.stack([a, b, np.tile(_EXPONENTS, 3)[best]], axis=-1)


def _weights(count: int) -> np.ndarray:
    """Return the weights of that many sizes, with the sum 1: the j-th smallest has j times that of the smallest."""
    return np.arange(1, count + 1) / (count * (count + 1) / 2)


def _errors(laws: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the errors (T, ...) of laws (T, 3) at shares (...) of their largest size."""
    a, b, c = laws.T.reshape(3, -1, *[1] * shares.ndim)
    return a + b * shares[None] ** -c


def forecast(
    units: Units,
    sizes: Sequence[int],
    name: str,
    mean_f1_of: Sequence[int],
    more: int,
    seed: int,
    until: int | None = None,
) -> Forecast:
    """Return the law of a learning curve, its forecast up to `MOST_TIMES` the largest size, and what `more` rows bring.

    Args:
        units: of S models on the same test rows.
        sizes: (S,) the train rows of each model, in any order; models of one size are its seeds.
        name: of the score, as in `label_counts.score`.
        mean_f1_of: places of the labels that f1_mean_labels averages.
        more: further rows.
        seed: of the random numbers.
        until: the largest number of rows to forecast, for a curve whose end is held out; None for the limit.

    Raises:
        ValueError: there are fewer than `MIN_SIZES` sizes.
    """
    known = np.unique(sizes)
    if len(known) < MIN_SIZES:
        raise ValueError(f"{len(known)} sizes; a power law needs {MIN_SIZES}")
    members = [np.flatnonzero(np.asarray(sizes) == size) for size in known]
    scores = label_counts.score(units.total(), name, mean_f1_of)  # (S,)
    means = np.array([scores[places].mean() for places in members])  # (K,)
    law = fit(known, 1 - means)
    free = len(known) - 3
    apart = float(_weights(len(known)) @ (1 - means - law.error(known)) ** 2) * len(known) / free
    rng = np.random.default_rng(seed)
    laws = _fit(known / known[-1], 1 - _draws(rng, units, members, name, mean_f1_of, apart))
    rows = np.unique([*np.geomspace(known[0], until or MOST_TIMES * known[-1], 25), known[-1]])
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    distance = math.sqrt(apart) * rng.standard_t(free, size=(len(laws), 1))
    low, high = np.quantile(1 - _errors(laws, rows / known[-1]) + distance, tails, axis=0)
    further = np.array([1.0, 1 + more / known[-1]])
    gain = float(-np.diff(law.error(further * known[-1]))[0])
    ends = np.quantile(-np.diff(_errors(laws, further))[:, 0], tails)
    return Forecast(
        law, rows.tolist(), (1 - law.error(rows)).tolist(), low.tolist(), high.tolist(), gain, *ends.tolist()
    )


def _draws(
    rng: np.random.Generator,
    units: Units,
    members: Sequence[np.ndarray],
    name: str,
    mean_f1_of: Sequence[int],
    apart: float,
) -> np.ndarray:
    """Return mean scores (T, K) of the K sizes, drawn again; `apart` is the variance of one size around the law."""
    scores = label_counts.score(units.total(), name, mean_f1_of)  # (S,)
    counts = units.drawn(rng, DRAWS)
    replicates = np.concatenate([label_counts.score(one, name, mean_f1_of) for one in counts])  # (T, S)
    drawn = np.stack([replicates[:, places].mean(axis=1) for places in members], axis=1)  # (T, K)
    if units.grouped:
        means = np.array([scores[places].mean() for places in members])
        drawn = means + small_sample_factor(int(units.numbers.sum())) * (drawn - means)
    for place, seeds in enumerate(members):
        own = seed_variance(scores[seeds], replicates[:, seeds])
        of_seeds = math.sqrt(own) * rng.standard_t(max(len(seeds) - 1, 1), size=len(drawn))
        of_sample = math.sqrt(max(0.0, apart - own)) * rng.standard_t(len(members) - 3, size=len(drawn))
        drawn[:, place] += of_seeds + of_sample
    return drawn
