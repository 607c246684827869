"""The table of one dataset's paired tests, and the sentences that say what follows from them."""

from collections.abc import Sequence

from common.core.formatting import p_value, percent_range
from common.report import variant_grid
from common.report.comparisons import BETTER, OTHER_ROWS, Comparison, Comparisons, compare
from common.report.result import Result

_MOST_NAMES = 6  # in a sentence
_UNKNOWN = "–"


def comparison_table(results: Sequence[Result]) -> tuple[list[str], list[list[str]]] | None:
    """Return the tests of one dataset's results, None where nothing can be tested.

    Differences are in points of percent, with 95 % intervals; p is without correction, Holm's is corrected.
    """
    results = variant_grid.arrange(results)
    compared = compare(results)
    if compared.best is None or not any([*compared.to_best.values(), *compared.to_baseline.values()]):
        return None
    header = ["model"]
    for other in ("the best", "the best baseline"):
        header += [f"difference to {other}", "right alone", "McNemar p", "p", "Holm p"]
    rows = []
    for name, result in zip(variant_grid.names(results), results, strict=True):
        sides = [compared.to_best.get(id(result)), compared.to_baseline.get(id(result))]
        if any(sides):
            rows.append([name, *(cell for side in sides for cell in _cells(side))])
    return header, rows


def _cells(found: Comparison | None) -> list[str]:
    if found is None:
        return [_UNKNOWN] * 5
    difference, pair = found.difference, found.discordant
    points = f"{100 * difference.value:+.1f} {percent_range(difference.low, difference.high)}"
    exact = [f"{pair.first} : {pair.second}", p_value(pair.p)] if pair else [_UNKNOWN] * 2
    return [points, *exact, p_value(found.p), p_value(found.adjusted)]


def sentences(results: Sequence[Result]) -> list[str]:
    """Return what the statistics of one dataset's results say, and what is not known."""
    results = variant_grid.arrange(results)
    names = dict(zip(map(id, results), variant_grid.names(results), strict=True))
    compared = compare(results)
    if compared.best is None:
        return []
    rows = int(compared.best.documents[0]["test_n"])
    lines = [_about_best(results, compared, names, rows)]
    lines += [
        f"{count} folds: every row is a test row of one of {count} runs, which was not trained on it; training time is "
        "that of all of them."
        for count in sorted({result.folds for result in results} - {0})
    ]
    if compared.baseline is not None and compared.to_baseline:
        lines.append(_about_baseline(results, compared, names, rows))
    return [line for line in lines if line]


def _about_best(results: Sequence[Result], compared: Comparisons, names: dict[int, str], rows: int) -> str:
    assert compared.best is not None
    tested = [result for result in results if compared.to_best.get(id(result))]
    same = [names[id(result)] for result in tested if id(result) in compared.equals()]
    line = f"Highest {results[0].score_name}: {names[id(compared.best)]}."
    if same:
        line += f" Not distinguishable from it at {rows:,} rows: {_listed(same)}."
    elif tested:
        line += f" Distinguishable from it at {rows:,} rows: all {len(tested)} that were tested."
    others = [names[id(result)] for result in results if compared.mark(result) == OTHER_ROWS]
    untested = len(results) - 1 - len(tested) - len(others)
    if untested:
        line += f" Not tested: {untested} others, because predictions of the test rows are missing."
    if others:
        line += f" Scored on other test rows, so no comparison is possible: {_listed(others)}."
    return line


def _about_baseline(results: Sequence[Result], compared: Comparisons, names: dict[int, str], rows: int) -> str:
    assert compared.baseline is not None
    found: dict[str, list[str]] = {}
    for result in results:
        if compared.to_baseline.get(id(result)):
            found.setdefault(compared.baseline_mark(result), []).append(names[id(result)])
    words = {BETTER: "better than it", "≈": f"not distinguishable from it at {rows:,} rows", "worse": "worse"}
    parts = [f"{words[mark]}: {_listed(members)}" for mark, members in found.items()]
    return f"Best baseline: {names[id(compared.baseline)]}; {'; '.join(parts)}." if parts else ""


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:_MOST_NAMES])} and {more} more"
