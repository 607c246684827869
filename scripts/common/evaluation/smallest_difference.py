"""The smallest difference of accuracy that a test set can show: before a model is trained, or a paper is read.

Paired: two models on the same test rows, which differ on some of them (McNemar; normal approximation of R. J. Connett,
J. A. Smith and R. B. McHugh, Statistics in Medicine 6, 1987). Unpaired: two scores of test sets of this size, of which
only the numbers are known, such as a score in a paper.
"""

import math

from scipy import optimize, special

LEVEL, POWER = 0.05, 0.8
ACCURACY, DISAGREEMENT = 0.8, 0.2  # assumed before anything is trained


def paired(rows: int, disagreement: float = DISAGREEMENT) -> float:
    """Return the difference in [0, 1] that McNemar's test finds with probability `POWER`.

    Args:
        rows: of the test set.
        disagreement: share of the rows that exactly one of the two models judges right; it bounds the difference.
    """
    alpha, beta = special.ndtri([1 - LEVEL / 2, POWER])

    def lacking(difference: float) -> float:
        spread = math.sqrt(max(0.0, disagreement - difference**2))
        return float(alpha * math.sqrt(disagreement) + beta * spread - difference * math.sqrt(rows))

    return float(optimize.brentq(lacking, 0.0, disagreement)) if lacking(disagreement) < 0 else math.nan


def unpaired(rows: int, accuracy: float = ACCURACY) -> float:
    """Return the difference in [0, 1] that a test of two scores on `rows` rows each finds with probability `POWER`.

    Args:
        rows: of each test set.
        accuracy: of both models together.
    """
    alpha, beta = special.ndtri([1 - LEVEL / 2, POWER])
    return float((alpha + beta) * math.sqrt(2 * accuracy * (1 - accuracy) / rows))


def describe(rows: int) -> list[str]:
    """Return the lines that `make check` prints about a test set of so many rows."""
    same, other = paired(rows), unpaired(rows)
    least = f"{100 * same:.1f} points" if math.isfinite(same) else f"more than {100 * DISAGREEMENT:.0f} points"
    return [
        f"Smallest difference of accuracy that {rows:,} test rows show (p ≤ {LEVEL}, in {POWER:.0%} of the cases):",
        f"  two models on these rows, of which exactly one is right on {DISAGREEMENT:.0%} of them: {least}",
        f"  a score from elsewhere, at an accuracy of {ACCURACY:.0%}: {100 * other:.1f} points",
    ]
