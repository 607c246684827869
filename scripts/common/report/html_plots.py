"""Values behind tables and plots of the HTML report: learning curves over train rows, and scores by group.

Texts and sentences are those of `curve_tables` and `groups`; `html/more.js` and `html/groups.js` draw the numbers.
"""

from collections.abc import Sequence
from typing import Any

from common.evaluation.intervals import Interval
from common.report import curve_tables, groups
from common.report.curves import Curve, score_range
from common.report.groups import GroupScores


def more_labels(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """Return the learning curves of one dataset as JSON values, one entry for each kind of sample; [] without curves.

    Numbers of rows are counted in rows of each label where the samples have as many of each. Scores are in [0, 1].
    """
    return [_kind(members) for members in curve_tables.by_dataset(curves).values()]


def _kind(curves: Sequence[Curve]) -> dict[str, Any]:
    header, texts = curve_tables.table(curves)
    sizes = sorted({point.rows for curve in curves for point in curve.points})
    lines = []
    for curve, [name, *cells] in zip(curves, texts, strict=True):
        found = {point.rows: point.result for point in curve.points}
        shown = [
            _cell(text, result.mean(result.score_key), result.interval(result.score_key))
            if (result := found.get(size))
            else None
            for size, text in zip(sizes, cells, strict=True)
        ]
        lines.append({"name": name, "now": curve.points[-1].rows / curve.unit, "cells": shown, "law": _law(curve)})
    return {
        "title": curve_tables.title(curves),
        "score": curves[0].lead.score_name,
        "per_label": curves[0].per_label,
        "header": header,
        "sizes": [size // curves[0].unit for size in sizes],
        "range": score_range(curves),
        "lines": lines,
        "sentences": list(map(curve_tables.sentence, curves)),
    }


def _law(curve: Curve) -> dict[str, list[float]] | None:
    """Return the fitted power law with its forecast and the 95 % intervals, None where nothing can be forecast."""
    found = curve.forecast
    if found is None:
        return None
    rows = [count / curve.unit for count in found.rows]
    return {"rows": rows, "score": found.score, "low": found.low, "high": found.high}


def by_group(found: GroupScores | None) -> dict[str, Any] | None:
    """Return the scores of one dataset by group as JSON values; None where its test rows have no groups."""
    if found is None:
        return None
    texts = groups.table(found)[1]
    rows = []
    for (group, count), [_, _, *cells] in zip(found.rows.items(), texts, strict=True):
        scores = [
            _cell(text, one.mean, one.interval) if one else None
            for one, text in zip(found.cells[group], cells, strict=True)
        ]
        rows.append({"group": group, "n": count, "cells": scores})
    return {"score": found.name, "models": list(found.models), "rows": rows, "sentences": groups.sentences(found)}


def _cell(text: str, mean: float | None, interval: Interval | None) -> dict[str, Any]:
    low, high = (interval.low, interval.high) if interval else (None, None)
    return {"text": text, "mean": mean, "low": low, "high": high}
