"""A score over seeds: what a cell of the tables by group and by fold has."""

import dataclasses

from common.evaluation.intervals import Interval


@dataclasses.dataclass(frozen=True)
class SeedScores:
    """One score of some rows.

    Attributes:
        scores: by seed.
        interval: of their mean; None where it is not known which rows are right.
    """

    scores: tuple[float, ...]
    interval: Interval | None

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return sum(self.scores) / len(self.scores)
