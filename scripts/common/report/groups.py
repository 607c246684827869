"""The scores of one dataset's models in each group of its test rows: which topics or authors are hard."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from common.core.formatting import markdown_text
from common.evaluation import resampling
from common.evaluation.resampling import Units
from common.report import best_runs, readme_tables, statistics, variant_grid
from common.report.result import METRIC_NAMES, Result
from common.report.seed_scores import SeedScores
from common.runs.documents import Metrics, value

MOST_GROUPS, MOST_MODELS = 20, 8  # that a table or a plot can show
_ACCURACY = "accuracy"


@dataclasses.dataclass(frozen=True)
class GroupScores:
    """Scores by group and model.

    Attributes:
        name: of the score, as in tables.
        models: names of the models, the one with the best leading score first.
        other_models: number of models that are not shown.
        rows: {group: number of its test rows}, the group first in which the first model is worst.
        all_groups: number of groups, also of those not shown.
        cells: by group and model; None where a model has not scored the group.
    """

    name: str
    models: tuple[str, ...]
    other_models: int
    rows: dict[str, int]
    all_groups: int
    cells: dict[str, tuple[SeedScores | None, ...]]


def find(results: Sequence[Result]) -> GroupScores | None:
    """Return the scores of one dataset's results by group; None where its test rows have fewer than two groups.

    Of a job's variants the one is taken that validation chooses. The score is the leading one, or accuracy where
    the leading one is not known by group.
    """
    results = variant_grid.arrange(results)
    names = dict(zip(map(id, results), variant_grid.names(results), strict=True))
    chosen = [result for result in best_runs.best_variants(results) if len(_groups(result.documents[0])) > 1]
    if not chosen:
        return None
    # sorted is stable: equal scores stay in the order of the other tables
    chosen = sorted(chosen, key=lambda result: -(result.mean(result.score_key) or 0.0))
    chosen = [result for result in chosen if not result.has_other_rows(chosen[0])]
    shown, key = chosen[:MOST_MODELS], _score_key(chosen)
    first = _groups(shown[0].documents[0])
    means = {group: float(np.mean(_scores(shown[0], group, key))) for group in first}
    order = sorted(first, key=lambda group: (means[group], -first[group]["n"]))[:MOST_GROUPS]
    return GroupScores(
        name=shown[0].score_name if f"test_{key}" == shown[0].score_key else METRIC_NAMES[key],
        models=tuple(names[id(result)] for result in shown),
        other_models=len(chosen) - len(shown),
        rows={group: int(first[group]["n"]) for group in order},
        all_groups=len(first),
        cells={group: tuple(_cell(result, group, key) for result in shown) for group in order},
    )


def table(found: GroupScores) -> readme_tables.Table:
    """Return header and rows: a group, its number of rows, and the score of each model in percent with its interval."""
    rows = []
    for group, count in found.rows.items():
        cells = [
            readme_tables.with_interval(cell.scores, cell.interval) if cell else "–" for cell in found.cells[group]
        ]
        rows.append([markdown_text(group), f"{count:,}", *cells])
    return ["group", "rows", *found.models], rows


def sentences(found: GroupScores) -> list[str]:
    """Return which score it is, and which groups and models are shown."""
    some = (
        f", the {len(found.rows)} of {found.all_groups:,} with the lowest" if len(found.rows) < found.all_groups else ""
    )
    name = found.name[0].upper() + found.name[1:]
    lines = [f"{name} by group{some}; the group where {found.models[0]} is worst comes first."]
    if found.other_models:
        lines.append(f"Models with lower scores on all rows, not shown: {found.other_models}.")
    return lines


def _groups(document: Metrics) -> dict[str, dict[str, float]]:
    return value(document, "test_groups") or {}


def _score_key(results: Sequence[Result]) -> str:
    """Return the leading score where every group of every result has it, else accuracy."""
    leading = results[0].score_key.removeprefix("test_")
    entries = [entry for result in results for document in result.documents for entry in _groups(document).values()]
    return leading if all(leading in entry for entry in entries) else _ACCURACY


def _scores(result: Result, group: str, key: str) -> tuple[float, ...]:
    found = [_groups(document).get(group) for document in result.documents]
    return tuple(entry[key] for entry in found if entry is not None)


def _cell(result: Result, group: str, key: str) -> SeedScores | None:
    scores = _scores(result, group, key)
    if not scores:
        return None
    units = _units(result, group, key)
    if units is None:
        return SeedScores(scores, None)
    return SeedScores(scores, statistics.intervals(units, [key], result.mean_f1_of, result.cache).get(key))


def _units(result: Result, group: str, key: str) -> Units | None:
    """Return the rows of a group for resampling, None where it is not known which of them are right."""
    place = list(_groups(result.documents[0])).index(group)
    first, *others = result.outcomes or (None,)
    known = [one for one in (first, *others) if one is not None and first and one.rows_sha256 == first.rows_sha256]
    if first and first.groups is not None and len(known) == len(result.documents):
        members = first.groups == place
        predicted = np.stack([one.predicted[members] for one in known])
        return resampling.units(first.gold[members], predicted, first.classes, None)
    if key == _ACCURACY and len(result.documents) == 1:
        entry = _groups(result.documents[0])[group]
        right = round(entry[_ACCURACY] * entry["n"])
        return resampling.units_of_confusion(np.array([[right, int(entry["n"]) - right]]))  # one label: right or wrong
    return None
