"""Compare the results of one table with the best one and with the best baseline, and say it in sentences.

The best result is the one with the highest leading score on the test rows. So every pair might have been tested, and
Holm's correction counts all pairs.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from common.evaluation import paired_tests, resampling
from common.evaluation.paired_tests import Difference, Discordant
from common.report import statistics
from common.report.result import Result

BEST, SAME, BETTER, WORSE, OTHER_ROWS, UNKNOWN = "best", "≈ best", "better", "worse", "other rows", "–"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One result against another one.

    Attributes:
        difference: in the leading score, with interval and p of the permutation test.
        discordant: rows that only one of them judges right, with McNemar's p; None for several seeds or groups of rows.
        p: of the test of the leading score: McNemar's where that is accuracy of one seed each, else the permutation's.
        adjusted: p after Holm's correction.
    """

    difference: Difference
    discordant: Discordant | None
    p: float
    adjusted: float

    @property
    def is_distinguishable(self) -> bool:
        """Whether chance does not explain the difference."""
        return self.adjusted <= paired_tests.LEVEL_OF_TESTS


@dataclasses.dataclass(frozen=True)
class Comparisons:
    """The results of one table against the best of them, and the fine-tuned ones against the best baseline.

    Attributes:
        best, baseline: the two; None where there is no result or no baseline.
        to_best, to_baseline: by `id` of a result; None where the two cannot be tested.
    """

    best: Result | None
    baseline: Result | None
    to_best: dict[int, Comparison | None]
    to_baseline: dict[int, Comparison | None]

    def mark(self, result: Result) -> str:
        """Return how a result stands to the best one: "best", "≈ best" (not distinguishable), "worse" or "–".

        "other rows" is a result that was scored on other test rows than the best one.
        """
        if result is self.best:
            return BEST
        if self.best is not None and result.has_other_rows(self.best):
            return OTHER_ROWS
        found = self.to_best.get(id(result))
        return UNKNOWN if found is None else WORSE if found.is_distinguishable else SAME

    def baseline_mark(self, result: Result) -> str:
        """Return how a fine-tuned result stands to the best baseline: "better", "≈", "worse" or "–"."""
        found = self.to_baseline.get(id(result))
        if found is None:
            return UNKNOWN
        if not found.is_distinguishable:
            return "≈"
        return BETTER if found.difference.value > 0 else WORSE

    def equals(self) -> set[int]:
        """Return the `id`s of the best result and of those that are not distinguishable from it."""
        same = {key for key, found in self.to_best.items() if found and not found.is_distinguishable}
        return same | ({id(self.best)} if self.best and same else set())


def compare(results: Sequence[Result]) -> Comparisons:
    """Return the comparisons of one table's results, which are on one dataset."""
    if not results:
        return Comparisons(None, None, {}, {})
    memory, key = results[0].cache.memory, f"comparisons {[id(result) for result in results]}"
    if key not in memory:  # the results stay there, too, so that their ids stay theirs
        memory[key] = list(results), _compare_all(results)
    found: Comparisons = memory[key][1]
    return found


def _compare_all(results: Sequence[Result]) -> Comparisons:
    best = _highest(results)
    baseline = _highest([result for result in results if result.baseline])
    if best is None:
        return Comparisons(None, None, {}, {})
    others = [result for result in results if result is not best]
    tuned = [result for result in results if not result.baseline]
    baselines = len(results) - len(tuned)
    to_best = _compare(others, best, len(results) * (len(results) - 1) // 2)
    to_baseline = _compare(tuned, baseline, len(tuned) * baselines) if baseline else {}
    return Comparisons(best, baseline, to_best, to_baseline)


def _highest(results: Sequence[Result]) -> Result | None:
    """Return the result with the highest leading score, the first of equal ones."""
    scored = [result for result in results if result.mean(result.score_key) is not None]
    return max(scored, key=lambda result: result.mean(result.score_key) or 0.0, default=None)


def _compare(results: Sequence[Result], other: Result, family: int) -> dict[int, Comparison | None]:
    """Return each result's comparison with the other one, corrected for a family of so many tests."""
    found = {id(result): pair(result, other, family) for result in results}
    tested = [comparison for comparison in found.values() if comparison]
    adjusted = iter(paired_tests.holm([one.p for one in tested], family))
    return {
        key: None if one is None else dataclasses.replace(one, adjusted=next(adjusted)) for key, one in found.items()
    }


def pair(one: Result, other: Result, family: int) -> Comparison | None:
    """Return a comparison of two results, without correction; None where their outcomes of the same rows are not known.

    Args:
        one: its score comes first in the difference.
        other: on the same rows.
        family: number of tests that will be corrected for.
    """
    rows = [*one.outcomes, *other.outcomes]
    first = rows[0] if rows else None
    name = one.score_key.removeprefix("test_")
    intervals = one.interval(one.score_key), other.interval(one.score_key)
    if first is None or not (one.outcomes and other.outcomes and all(intervals)):
        return None
    known = [row for row in rows if row is not None and row.rows_sha256 == first.rows_sha256]
    if len(known) < len(rows):
        return None
    units = resampling.units(first.gold, np.stack([row.predicted for row in known]), first.classes, first.groups)
    variances = [interval.seed_variance if interval else 0.0 for interval in intervals]
    discordant = None
    if len(known) == 2 and not units.grouped:
        discordant = paired_tests.mcnemar(first.gold, known[0].predicted, known[1].predicted)
    is_exact = discordant is not None and name in ("accuracy", "f1_micro")
    tests = 1 if is_exact else family
    difference = statistics.difference(
        units, len(one.outcomes), name, one.mean_f1_of, (variances[0], variances[1]), tests, one.cache
    )
    p = discordant.p if discordant and is_exact else difference.p
    return Comparison(difference, discordant, p, p)
