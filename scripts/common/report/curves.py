"""Learning curves over the number of train rows (`make curve`): their points, and what more rows would bring.

A point is never a row of the other tables, and never chosen as a job's best variant: `results.load` leaves it out.
"""

import dataclasses
import functools
import json
import re
from collections.abc import Sequence

import numpy as np

from common.config.job import BALANCED
from common.evaluation import power_law, resampling
from common.evaluation.power_law import Forecast
from common.evaluation.resampling import Units
from common.report import statistics
from common.report.result import Result
from common.runs.documents import value

_SAMPLE = ("training.max_train_samples", "training.sampling")


@dataclasses.dataclass(frozen=True)
class Point:
    """A result, and the number of train rows that it has learned from."""

    rows: int
    result: Result


@dataclasses.dataclass(frozen=True)
class Curve:
    """One job, or one baseline, with several numbers of train rows.

    Attributes:
        name: as in the other tables.
        per_label: whether the samples have as many rows of each label.
        points: by ascending number of rows.
    """

    name: str
    per_label: bool
    points: tuple[Point, ...]

    @property
    def lead(self) -> Result:
        """The result with the most train rows."""
        return self.points[-1].result

    @property
    def unit(self) -> int:
        """How many rows are one step of the axis: 1, or one row of each label."""
        return len(self.lead.documents[0]["test_labels"]) if self.per_label else 1

    @property
    def more(self) -> int:
        """A round number of further rows, at most half as many as there are: far from the data no forecast holds."""
        steps = self.points[-1].rows // self.unit
        power = 10 ** (len(str(max(1, steps // 2))) - 1)
        return self.unit * max(factor * power for factor in (1, 2, 5) if factor * power <= max(1, steps // 2))

    @property
    def why_not(self) -> str:
        """Why nothing can be forecast; "" where it can."""
        if len(self.points) < power_law.MIN_SIZES:
            return f"{len(self.points)} sizes; a curve needs at least {power_law.MIN_SIZES}"
        return "" if self._units else "the predictions of the same test rows are not known for all sizes"

    @functools.cached_property
    def _units(self) -> Units | None:
        rows = [one for point in self.points for one in point.result.outcomes]
        known = [one for one in rows if one is not None and rows[0] and one.rows_sha256 == rows[0].rows_sha256]
        if not known or len(known) < len(rows):
            return None
        predicted = np.stack([one.predicted for one in known])
        return resampling.units(known[0].gold, predicted, known[0].classes, known[0].groups)

    @functools.cached_property
    def forecast(self) -> Forecast | None:
        """The fitted power law and its intervals; None where there are too few sizes, or predictions are not known."""
        if self._units is None or len(self.points) < power_law.MIN_SIZES:
            return None
        sizes = [point.rows for point in self.points for _ in point.result.outcomes]
        name, lead = self.lead.score_key.removeprefix("test_"), self.lead
        return statistics.forecast(self._units, sizes, name, lead.mean_f1_of, self.more, lead.cache)


def find(results: Sequence[Result]) -> list[Curve]:
    """Return the curves among all results of some datasets, of which each has two points or more.

    Args:
        results: of `results.load_all`: the points, and the runs on all train rows, which are the last points.
    """
    whole: dict[str, Point] = {}
    for result in results:
        if result.curve_rows is None and (rows := _train_rows(result, results)):
            whole[_kind(result)] = Point(rows, result)
    found: dict[tuple[str, bool], list[Point]] = {}
    for result in results:
        if result.curve_rows is not None:
            key = _kind(result), result.settings[_SAMPLE[1]] == BALANCED
            found.setdefault(key, []).append(Point(result.curve_rows, result))
    curves = []
    for (kind, per_label), sampled in found.items():
        # Of two runs on as many rows, which differ in the name of their variant, one is a point.
        last = [whole[kind]] if kind in whole and not per_label else []
        points = {point.rows: point for point in [*last, *sampled]}
        if len(points) > 1:
            ordered = tuple(points[rows] for rows in sorted(points))
            curves.append(Curve(_name(sampled[0].result), per_label, ordered))
    return curves


def score_range(curves: Sequence[Curve]) -> tuple[float, float]:
    """Return the lowest and the highest score that a plot of some curves shows.

    All points, their intervals and the laws are in it; of wide bands around the laws a part, so that the points do not
    become small: from four sizes, a band may be wider than all possible scores.
    """
    ends: list[float] = []
    for point in [point for curve in curves for point in curve.points]:
        found = point.result.interval(point.result.score_key)
        ends += point.result.values(point.result.score_key) + ([found.low, found.high] if found else [])
    laws = [curve.forecast for curve in curves if curve.forecast]
    ends += [score for law in laws for score in law.score]
    low, high = min(ends), max(ends)
    reach = (high - low) / 2
    lowest = min([low, *(end for law in laws for end in law.low)])
    highest = max([high, *(end for law in laws for end in law.high)])
    return max(lowest, low - reach, 0.0 if low >= 0 else -1.0), min(highest, high + reach, 1.0)


def _kind(result: Result) -> str:
    """Return what the points of one curve have in common, as text: everything but the number of train rows."""
    baseline = str(result.documents[0].get("baseline") or "")  # few-shot without the number of its examples
    others = ("method.", "training.", "runtime.") if baseline else _SAMPLE  # these change no baseline
    settings = {key: setting for key, setting in result.settings.items() if not key.startswith(others)}
    data = value(result.documents[0], "data_sha256")
    return json.dumps([result.dataset, result.job, baseline, settings, data], sort_keys=True)


def _train_rows(result: Result, results: Sequence[Result]) -> int | None:
    """Return the number of train rows of a run on all of them, None for a run on a sample, or where it is not known.

    The largest number of any run on the same data are all of them; baselines of older versions did not write theirs.
    """
    data = value(result.documents[0], "data_sha256")
    alike = [one for one in results if (one.dataset, value(one.documents[0], "data_sha256")) == (result.dataset, data)]
    most = max((int(value(one.documents[0], "train_count") or 0) for one in alike), default=0)
    own, limit = value(result.documents[0], "train_count"), result.settings.get(_SAMPLE[0])
    if limit is None:
        return int(own or most) or None
    return int(own) if own and (own < limit or own == most) else None


def _name(result: Result) -> str:
    """Return the name of a point's result without its sample."""
    words = [re.escape(key) for key in _SAMPLE]
    variant = re.sub(rf"(^|,)({'|'.join(words)})=[^,]*", "", result.variant).strip(",")
    return dataclasses.replace(result, variant=variant, baseline=str(result.documents[0].get("baseline") or "")).name
