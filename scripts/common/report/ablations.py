"""Does a model use both texts of a pair? Its score without one of them, or with another row's, beside its own."""

import dataclasses
import json
from collections.abc import Sequence

from common.config.ablation import Ablation
from common.core.formatting import markdown_text, p_value, percent_range
from common.evaluation import paired_tests
from common.report import readme_tables, variant_grid
from common.report.comparisons import Comparison, pair
from common.report.result import Result

ORDER: tuple[Ablation, ...] = ("second-text", "first-text", "shuffled-first")
ABOUT = (
    "All texts: the leading score in percent. Without a text, the model was trained and tested without it; shuffled: "
    "each row has the text of another row of its split. Differences to all texts in points [95 % interval of the "
    "paired rows]. A model that scores no lower without a text does not need it."
)


@dataclasses.dataclass(frozen=True)
class Line:
    """A result and its ablations.

    Attributes:
        name: of the result in tables.
        whole: the result that reads all texts; None where there is none with these settings.
        ablated: its ablations by kind.
        compared: each minus the whole, with Holm's correction; those that cannot be tested are left out.
    """

    name: str
    whole: Result | None
    ablated: dict[str, Result]
    compared: dict[str, Comparison]


def lines(results: Sequence[Result]) -> list[Line]:
    """Return the results of one dataset that have ablations, in the order of the tables; [] without any.

    Holm's correction counts all tests of the dataset's ablations.
    """
    others = [result for result in results if not result.ablation]
    if len(others) == len(results) or not others:
        return []
    ablated: dict[str, dict[str, Result]] = {}
    for result in results:
        if result.ablation:
            ablated.setdefault(_settings(result), {})[result.ablation] = result
    arranged = variant_grid.arrange(others)
    found = [
        Line(name, result, ablated.pop(key), {})
        for name, result in zip(variant_grid.names(arranged), arranged, strict=True)
        if (key := _settings(result)) in ablated
    ]
    without_whole = [Line(next(iter(members.values())).name, None, members, {}) for members in ablated.values()]
    return _compared(found) + without_whole


def _compared(found: Sequence[Line]) -> list[Line]:
    """Return the lines with the paired tests of their ablations."""
    family = sum(len(line.ablated) for line in found)
    tests: dict[tuple[int, str], Comparison] = {}
    for place, line in enumerate(found):
        for kind, member in line.ablated.items():
            if line.whole is not None and (test := pair(member, line.whole, family)):
                tests[place, kind] = test
    adjusted = paired_tests.holm([test.p for test in tests.values()], family)
    for key, p in zip(list(tests), adjusted, strict=True):
        tests[key] = dataclasses.replace(tests[key], adjusted=p)
    return [
        dataclasses.replace(line, compared={kind: test for (at, kind), test in tests.items() if at == place})
        for place, line in enumerate(found)
    ]


def _settings(result: Result) -> str:
    """Return everything in which an ablation and the result that reads all texts agree."""
    others = ("ablation", "method.", "training.", "runtime.") if result.baseline else ("ablation",)
    settings = {key: value for key, value in result.settings.items() if not key.startswith(others)}
    return json.dumps([result.job, result.baseline, settings], sort_keys=True)


def table(results: Sequence[Result]) -> readme_tables.Table | None:
    """Return a row per result that has ablations; None without any.

    The score is the leading one, in percent. An ablation has its difference to that in points, with the 95 % interval
    of the paired rows; where no result reads all texts, its score.
    """
    found = lines(results)
    if not found:
        return None
    kinds = [kind for kind in ORDER if any(kind in line.ablated for line in found)]
    texts = next(result.texts for result in results if not result.ablation)
    rows = []
    for line in found:
        score = "–" if line.whole is None else readme_tables.score(line.whole, line.whole.score_key)
        seeds = "–" if line.whole is None else str(len(line.whole.documents))
        rows.append([line.name, seeds, score, *(_cell(line, kind) for kind in kinds)])
    return ["model", "seeds", "all texts", *(markdown_text(title(kind, texts)) for kind in kinds)], rows


def title(kind: str, texts: Sequence[str]) -> str:
    """Return what an ablation does, in the words of a table: "without claim", "claim shuffled".

    Args:
        kind: of the ablation.
        texts: names of the text columns.
    """
    if kind == "shuffled-first":
        return f"{texts[0]} shuffled"
    return f"without {' and '.join(texts[1:] if kind == 'first-text' else texts[:1])}"


def _cell(line: Line, kind: str) -> str:
    if kind not in line.ablated:
        return "–"
    member = line.ablated[kind]
    if line.whole is None:
        return f"score {readme_tables.score(member, member.score_key)}"
    if found := line.compared.get(kind):
        difference = found.difference
        return f"{100 * difference.value:+.1f} {percent_range(difference.low, difference.high)}"
    means = member.mean(member.score_key), line.whole.mean(member.score_key)
    return "–" if None in means else f"{100 * ((means[0] or 0.0) - (means[1] or 0.0)):+.1f} [–]"


def sentences(results: Sequence[Result]) -> list[str]:
    """Return which ablations the paired tests tell from the result that reads all texts, and which not."""
    found: dict[str, list[str]] = {}
    for line in lines(results):
        for kind, compared in line.compared.items():
            assert line.whole is not None
            about = f"{line.name} {title(kind, line.whole.texts)} (Holm p {p_value(compared.adjusted)})"
            higher = compared.difference.value > 0
            word = ("Higher" if higher else "Lower") if compared.is_distinguishable else "Not distinguishable"
            found.setdefault(word, []).append(about)
    words = {
        "Lower": "Lower than with all texts, so the model uses what is taken away",
        "Not distinguishable": "Not distinguishable from all texts",
        "Higher": "Higher than with all texts",
    }
    return [f"{words[word]}: {', '.join(found[word])}." for word in words if word in found]
