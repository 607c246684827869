"""What a new group costs: scores on rows of known groups beside those of the held-out group, and the gap.

With `folds: group`, the run of a fold has not trained on one group, whose rows are its test split. Its split `in_group`
has rows of the other groups that it has not trained on, either.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from common.config.dataset import IN_GROUP
from common.core.formatting import markdown_text, percent_range
from common.evaluation import label_counts, resampling
from common.evaluation.intervals import Interval, unpaired_difference
from common.evaluation.resampling import Units
from common.report import best_runs, readme_tables, statistics, variant_grid
from common.report.finished_runs import FinishedRun
from common.report.result import Result
from common.report.seed_scores import SeedScores
from common.runs.documents import value

_MOST_FOLDS = 20  # of one model in the table
ALL = "all"
_NO_GAP = "Gap not distinguishable from 0"
ABOUT = (
    "In-group: rows of the groups that a run has trained on, which were kept out of training. Held out: the rows of "
    "the group that it has not trained on. Gap: the first minus the second, in points: what a new group costs. The two "
    "sides are not paired: the ends of the gap's interval come from both sides' own bootstrap intervals (Newcombe's "
    "method). Of all folds together, groups are drawn where there are at least "
    f"{resampling.MIN_GROUPS}, else rows, each with all its predictions, because a row is in-group in several folds; "
    "of one fold rows. With rows, the interval holds for new rows of these groups, not for other groups."
)


@dataclasses.dataclass(frozen=True)
class Side(SeedScores):
    """The leading score of one side of a gap.

    Attributes:
        rows: number of rows; a row that is in `in_group` of several folds counts in each.
    """

    rows: int


@dataclasses.dataclass(frozen=True)
class Gap:
    """The score on known groups minus that on held-out ones.

    Attributes:
        group: the held-out group of one fold; None for all folds together.
        known, held_out: the two sides. They are of different rows, or of runs that have trained on different rows.
    """

    group: str | None
    known: Side
    held_out: Side

    @property
    def value(self) -> float:
        """The gap, in [-1, 1]."""
        return self.known.mean - self.held_out.mean

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the gap, None where a side has none."""
        if self.known.interval is None or self.held_out.interval is None:
            return None
        return unpaired_difference(self.known.interval, self.held_out.interval)


def gaps(result: Result) -> list[Gap]:
    """Return the gap of all folds together and that of each fold; [] where rows of known groups were not scored.

    Scores of all folds are computed from their rows together. Of more than 20 folds those with the largest gaps are
    taken.
    """
    runs = result.fold_runs
    if not runs or any(value(run.document, f"{IN_GROUP}_confusion") is None for seed in runs for run in seed):
        return []
    folds = list(zip(*runs, strict=True))  # by fold, then by seed
    largest = sorted(folds, key=lambda fold: _difference(result, fold))[:_MOST_FOLDS]
    shown = [fold for fold in folds if any(fold is one for one in largest)]
    whole = Gap(None, _all_known(result), _all_held_out(result))
    return [whole, *(_of_fold(result, fold) for fold in shown)]


def _difference(result: Result, fold: Sequence[FinishedRun]) -> float:
    """Return the score on the held-out group minus that on known groups."""
    return sum(_score(result, run, "test") - _score(result, run, IN_GROUP) for run in fold)


def _score(result: Result, run: FinishedRun, split: str) -> float:
    return float(value(run.document, result.score_key.replace("test", split, 1)))


def _of_fold(result: Result, fold: Sequence[FinishedRun]) -> Gap:
    """Return the gap of one fold, over its seeds; rows are drawn, so it holds for other rows of these groups."""

    def side(split: str) -> Side:
        documents = [run.document for run in fold]
        outcomes = [run.in_group if split == IN_GROUP else run.outcomes for run in fold]
        units = statistics.units_of(documents, outcomes, split, rows_alone=True)
        scores = tuple(_score(result, run, split) for run in fold)
        return Side(scores, _interval(result, units), int(value(documents[0], f"{split}_n")))

    [*groups] = value(fold[0].document, "test_groups") or {}
    return Gap(", ".join(groups), side(IN_GROUP), side("test"))


def _all_held_out(result: Result) -> Side:
    rows = int(value(result.documents[0], "test_n"))
    return Side(tuple(result.values(result.score_key)), result.interval(result.score_key), rows)


def _all_known(result: Result) -> Side:
    name = result.score_key.removeprefix("test_")
    scores, rows = [], 0
    for seed in result.fold_runs:
        confusion = np.sum([statistics.confusion_of(run.document, IN_GROUP) for run in seed], axis=0)
        scores.append(float(label_counts.score(label_counts.of_confusion(confusion), name, result.mean_f1_of)))
        rows = int(confusion.sum())
    return Side(tuple(scores), _interval(result, _known_units(result.fold_runs)), rows)


def _known_units(seeds: Sequence[Sequence[FinishedRun]]) -> Units | None:
    """Return what is drawn of the rows of known groups of all folds, None where it is not known which are right.

    A row may be in several folds, and models judge it alike. So a row is drawn with all its predictions, or a group
    with all its rows where there are enough groups.
    """
    parts = [[run.in_group for run in seed] for seed in seeds]
    first = [part for part in parts[0] if part is not None and part.rows is not None and part.groups is not None]
    if len(first) < len(parts[0]):
        return None
    for seed in parts:
        if any(part is None or part.rows_sha256 != one.rows_sha256 for part, one in zip(seed, first, strict=True)):
            return None
    names = [
        np.array(sorted(value(run.document, f"{IN_GROUP}_groups")))[part.groups]
        for run, part in zip(seeds[0], first, strict=True)
    ]
    _, clusters = np.unique(np.concatenate(names), return_inverse=True)
    if not resampling.by_group(clusters):
        _, clusters = np.unique(np.concatenate([part.rows for part in first]), return_inverse=True)
    gold = np.concatenate([part.gold for part in first])
    predicted = np.stack([np.concatenate([part.predicted for part in seed if part is not None]) for seed in parts])
    return resampling.units(gold, predicted, first[0].classes, clusters).alike()


def _interval(result: Result, units: Units | None) -> Interval | None:
    if units is None:
        return None
    name = result.score_key.removeprefix("test_")
    return statistics.intervals(units, [name], result.mean_f1_of, result.cache).get(name)


# --- the table ------------------------------------------------------------------------------------------------------


def table(results: Sequence[Result]) -> tuple[list[str], list[list[str]]] | None:
    """Return a row per model and, below it, one per held-out group; None where no result has rows of known groups.

    Scores are the leading ones, in percent, gaps in points, both with 95 % intervals. Of a job's variants, the one is
    shown that validation chooses.
    """
    rows = []
    for name, _, found in _shown(results):
        for gap in found:
            about = [name, ALL] if gap.group is None else ["", markdown_text(gap.group)]
            sides = [gap.known, gap.held_out]
            scores = [readme_tables.with_interval(side.scores, side.interval) for side in sides]
            rows.append([*about, *(f"{side.rows:,}" for side in sides), *scores, _points(gap)])
    header = ["model", "held-out group", "rows in-group", "rows held out", "in-group", "held out", "gap"]
    return (header, rows) if rows else None


def sentences(results: Sequence[Result]) -> list[str]:
    """Return which models have a gap that chance does not explain, and how many folds are not shown."""
    found: dict[str, list[str]] = {}
    notes: dict[str, None] = {}
    for name, result, [whole, *folds] in _shown(results):
        if whole.interval is not None:
            low, high = whole.interval
            kind = "Lower on held-out groups" if low > 0 else "Higher on held-out groups" if high < 0 else _NO_GAP
            found.setdefault(kind, []).append(f"{name} ({100 * whole.value:+.1f} points)")
        if len(folds) < result.folds:
            line = f"Below each model are the {len(folds)} of {result.folds} held-out groups with its largest gaps."
            notes[line] = None
    return [f"{kind}: {', '.join(names)}." for kind, names in found.items()] + list(notes)


def _shown(results: Sequence[Result]) -> list[tuple[str, Result, list[Gap]]]:
    """Return the name and the gaps of each result that has some."""
    results = variant_grid.arrange(results)
    names = dict(zip(map(id, results), variant_grid.names(results), strict=True))
    found = [(names[id(result)], result, gaps(result)) for result in best_runs.best_variants(results)]
    return [entry for entry in found if entry[2]]


def _points(gap: Gap) -> str:
    ends = gap.interval
    return f"{100 * gap.value:+.1f} {percent_range(*ends) if ends else '[–]'}"
