"""The table of the learning curves of one dataset, and the sentences that say what more rows would bring."""

from collections.abc import Sequence

from common.core.formatting import markdown_list, markdown_table, markdown_text, percent, percent_range, text_table
from common.evaluation.power_law import MOST_TIMES
from common.report.curves import Curve
from common.report.readme_tables import Table
from common.report.result import Result

_NO_GAIN, _LITTLE = 0.0005, 0.01  # of a score: an end of an interval that is +0.0 points; a gain that is little
_UNKNOWN = "–"
ABOUT = (
    "Test scores in percent by the number of train rows, mean ± standard deviation over seeds [95 % interval]. A "
    "larger sample contains every smaller one, and each is the same for all models. Forecasts are by the power law "
    f"error = a + b · n^-c, up to {MOST_TIMES} times the present rows; their 95 % intervals contain what comes from "
    "the test rows, from seeds, and from the distance of the scores from the curve."
)


def by_dataset(curves: Sequence[Curve]) -> dict[tuple[str, bool], list[Curve]]:
    """Return the curves by dataset and by whether their samples have as many rows of each label."""
    found: dict[tuple[str, bool], list[Curve]] = {}
    for curve in sorted(curves, key=lambda curve: (curve.lead.dataset, curve.per_label)):
        found.setdefault((curve.lead.dataset, curve.per_label), []).append(curve)
    return found


def title(curves: Sequence[Curve]) -> str:
    """Return what the table of some curves shows, such as "accuracy by train rows of each label"."""
    return f"{curves[0].lead.score_name} by train rows{' of each label' if curves[0].per_label else ''}"


def table(curves: Sequence[Curve]) -> Table:
    """Return the leading score of each curve of one dataset by the number of train rows, a row per curve."""
    sizes = sorted({point.rows for curve in curves for point in curve.points})
    unit = curves[0].unit
    words = [f"{size // unit:,} per label" if curves[0].per_label else f"{size:,} rows" for size in sizes]
    rows = []
    for curve in curves:
        cells = {point.rows: _score(point.result) for point in curve.points}
        rows.append([curve.name, *(cells.get(size, _UNKNOWN) for size in sizes)])
    return ["model", *words], rows


def _score(result: Result) -> str:
    found = result.interval(result.score_key)
    interval = percent_range(found.low, found.high) if found else f"[{_UNKNOWN}]"
    return f"{percent(result.values(result.score_key))} {interval}"


def sentence(curve: Curve) -> str:
    """Return what further train rows would bring, or that the data cannot tell."""
    now, more = curve.points[-1].rows // curve.unit, curve.more // curve.unit
    rows = f"rows{' of each label' if curve.per_label else ''}"
    if curve.forecast is None:
        return f"{curve.name}: the data cannot tell what more {rows} would bring: {curve.why_not}."
    found, law = curve.forecast, curve.forecast.law
    low, high = found.gain_low, found.gain_high
    points = f"{100 * low:+.1f} to {100 * high:+.1f} points (95 %)".replace("-0.0", "+0.0")
    factor = f"{law.b * (law.reference / curve.unit) ** law.c:.3g}"
    fitted = f"Fitted: error = {law.a:.3f} + {factor} · n^-{law.c:.2f}."
    if low < _NO_GAIN and high >= _LITTLE:
        return f"{curve.name}: the data cannot tell whether another {more:,} {rows} help: {points}, with {now:,} now."
    if low < _NO_GAIN:
        most = f"at most {100 * high:+.1f} points (95 %)"
        return f"{curve.name}: another {more:,} {rows} hardly help: {most}, with {now:,} now."
    return f"{curve.name}: another {more:,} {rows}: {points}, with {now:,} now. {fitted}"


def lines(curves: Sequence[Curve]) -> list[str]:
    """Return the tables and sentences of all curves as texts for a terminal; none without curves."""
    found = []
    for (dataset, _), members in by_dataset(curves).items():
        found.append(f"More labels? {dataset}, {title(members)} (test, %)\n\n{text_table(*table(members))}")
        found.append("\n".join(sentence(curve) for curve in members))
    return found


def section(curves: Sequence[Curve], plots: dict[tuple[str, bool], str]) -> list[str]:
    """Return the parts of the page about all curves; none without curves.

    Args:
        curves: of all datasets.
        plots: the path of each plot, relative to the page, by the keys of `by_dataset`.
    """
    parts = ["## More labels?", ABOUT] if curves else []
    for key, members in by_dataset(curves).items():
        about = markdown_text(f"{members[0].lead.documents[0]['dataset_title']}: {title(members)}")
        parts += [f"### {about}", markdown_table(*table(members))]
        parts.append(markdown_list(sentence(curve) for curve in members))
        if path := plots.get(key):
            parts.append(f'<img src="{path}" alt="{about}" width="45%">')
    return parts
