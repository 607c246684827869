"""Simulated models: rows of different difficulty, models of equal quality, seeds that differ."""

from statistics import NormalDist

import numpy as np


def equal_models(
    rng: np.random.Generator,
    rows: int,
    models: int = 1,
    seeds: int = 1,
    classes: int = 3,
    accuracy: float = 0.8,
    seed_sd: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return gold labels (N,) of unequal frequency, and the predictions (M, S, N) of models with the same accuracy.

    Args:
        rng: random numbers.
        rows: N.
        models: M; they share half of a row's difficulty.
        seeds: S of each model.
        classes: number of labels.
        accuracy: expected, of seeds whose quality does not differ.
        seed_sd: standard deviation of the quality of seeds, in standard deviations of difficulty.
    """
    shares = np.arange(1, classes + 1)
    gold = rng.choice(classes, rows, p=shares / shares.sum())
    difficulty = np.sqrt(0.5) * rng.normal(size=rows) + np.sqrt(0.2) * rng.normal(size=(models, 1, rows))
    difficulty = difficulty + np.sqrt(0.3) * rng.normal(size=(models, seeds, rows))
    quality = NormalDist().inv_cdf(accuracy) + seed_sd * rng.normal(size=(models, seeds, 1))
    wrong = (gold + rng.integers(1, classes, size=(models, seeds, rows))) % classes
    return gold, np.where(quality > difficulty, gold, wrong)
