"""Find rows that occur twice, in a split or in two, and texts with different labels: exactly, or nearly the same.

found = find_leaks(rows, dataset)          # "duplicates", "near_duplicates", "contradictions", "near_contradictions"
check_strict(found)                        # STRICT=1: raise a DataError
"""

from collections import defaultdict
from itertools import combinations
from typing import Any

from common.config.dataset import Dataset
from common.core.errors import DataError
from common.data.checks import count_duplicates, example_lines, find_contradictions, key
from common.data.near_duplicates import MAX_ROWS, find_near_pairs, how_compared, without_punctuation
from common.data.rows import Row, Rows

_EXAMPLES = 5


def find_leaks(rows: Rows, dataset: Dataset) -> dict[str, Any]:
    """Count duplicates and contradictions of all rows, exact and near.

    Returns:
        "duplicates" of `count_duplicates` and "contradictions" of `find_contradictions`, which compare texts up to case
        and spaces; "near_duplicates": {"searched": bool, "within", "between": as in "duplicates", without those counted
        there; "leaked": [[split, id, train id], …], some rows of other splits that are in train, exactly or nearly};
        "near_contradictions": {"count": pairs of nearly the same texts with no label in common, "punctuation_count": of
        these, how many differ in punctuation alone, "examples": as in "contradictions"}. Where the texts are too many
        to be compared, "searched" is False: near duplicates then differ in punctuation alone.
    """
    plain = {split: [(row, key(row), without_punctuation(row.texts)) for row in found] for split, found in rows.items()}
    texts = list(dict.fromkeys(text for found in plain.values() for _, _, text in found))
    pairs = find_near_pairs(texts)
    near: dict[tuple[str, ...], list[tuple[str, ...]]] = defaultdict(list)
    for one, other in pairs or ():
        near[texts[one]].append(texts[other])
        near[texts[other]].append(texts[one])
    within, between = {}, {}
    for split, found in plain.items():
        exact, seen, within[split] = set(), set(), 0
        for _, exactly, text in found:
            if exactly not in exact:
                within[split] += text in seen or any(other in seen for other in near.get(text, ()))
            exact.add(exactly)
            seen.add(text)
    leaked: list[list[str]] = []
    for first, second in combinations(plain, 2):
        exact, first_of = set(), dict[tuple[str, ...], str]()
        for row, exactly, text in plain[first]:
            exact.add(exactly)
            first_of.setdefault(text, row.id)
        count = 0
        for row, exactly, text in plain[second]:
            place = next((first_of[one] for one in (text, *near.get(text, ())) if one in first_of), None)
            count += place is not None and exactly not in exact
            if first == "train" and place is not None and len(leaked) < _EXAMPLES:
                leaked.append([second, row.id, place])
        between[f"{second} in {first}"] = count
    near_duplicates = {
        "searched": pairs is not None,
        **{"within": within, "between": between, "leaked": leaked},
    }
    return {
        "duplicates": count_duplicates(rows),
        "near_duplicates": near_duplicates,
        "contradictions": find_contradictions(rows, dataset),
        "near_contradictions": _near_contradictions(plain, near, dataset),
    }


def _near_contradictions(plain: dict[str, list[Any]], near: dict[Any, list[Any]], dataset: Dataset) -> dict[str, Any]:
    """Count pairs of different texts that are nearly the same and have different labels."""
    by_text: dict[tuple[str, ...], dict[tuple[str, ...], list[tuple[str, Row]]]] = defaultdict(dict)
    for split, found in plain.items():
        for row, exactly, text in found:
            by_text[text].setdefault(exactly, []).append((split, row))
    contradicting, punctuation = [], 0
    order = {text: place for place, text in enumerate(by_text)}
    # Texts that differ in punctuation alone come first, and are the first examples.
    for text, same in sorted(by_text.items(), key=lambda item: len(item[1]) == 1):
        first, *others = same.values()  # differ in punctuation alone
        labels = {row.label for _, row in first}
        punctuation += sum(labels.isdisjoint(row.label for _, row in other) for other in others)
        others += [next(iter(by_text[one].values())) for one in near.get(text, ()) if order[one] > order[text]]
        contradicting += [(first, other) for other in others if labels.isdisjoint(row.label for _, row in other)]
    examples = [
        [[split, row.id, str(dataset.labels[row.label])] for split, row in (one[0], other[0]) if row.label is not None]
        for one, other in contradicting[:_EXAMPLES]
    ]
    return {"count": len(contradicting), "punctuation_count": punctuation, "examples": examples}


def leak_counts(found: dict[str, Any]) -> dict[str, int | None]:
    """Return the counts of `find_leaks` as fields of metrics.json; None where near duplicates were not looked for.

    Rows that repeat a row of their split (duplicate_count), rows of validation and test that are in train
    (leaked_count), and texts with different labels (contradiction_count); near_… are the nearly equal ones beside them.
    """

    def rows(kind: str) -> tuple[int, int]:
        part = found[kind]
        shared = sum(count for pair, count in part["between"].items() if pair.endswith(" in train"))
        return sum(part["within"].values()), shared

    (duplicates, leaked), near = rows("duplicates"), rows("near_duplicates")
    searched = found["near_duplicates"]["searched"]
    return {
        "duplicate_count": duplicates,
        "leaked_count": leaked,
        "contradiction_count": found["contradictions"]["count"],
        "near_duplicate_count": near[0] if searched else None,
        "near_leaked_count": near[1] if searched else None,
        "near_contradiction_count": found["near_contradictions"]["count"] if searched else None,
    }


def summary(found: dict[str, Any]) -> str:
    """Return the counts of `find_leaks` in two lines, for the beginning of a run."""
    counts = leak_counts(found)

    def both(name: str) -> str:
        near = counts[f"near_{name}_count"]
        return f"{counts[f'{name}_count']} (nearly: {'not looked for' if near is None else near})"

    about = how_compared(found["near_duplicates"])
    return (
        f"rows repeated within a split: {both('duplicate')}; rows of validation and test that are in train: "
        f"{both('leaked')}\ntexts with different labels: {both('contradiction')}{about}"
    )


def check_strict(found: dict[str, Any]) -> None:
    """Raise a `DataError` when validation or test rows are in train, or the same texts have different labels.

    Nearly the same texts with different labels in one split are no error: in real data many are negations.

    Args:
        found: by `find_leaks`.
    """
    counts, lines = leak_counts(found), []
    if not found["near_duplicates"]["searched"]:
        lines.append(
            f"STRICT: near duplicates were not looked for: more than {MAX_ROWS:,} different texts, or texts that are "
            "too much alike. Use fewer rows, or leave STRICT out."
        )
    if leaked := counts["leaked_count"] + (counts["near_leaked_count"] or 0):  # type: ignore[operator]
        lines.append(f"STRICT: {leaked} rows of validation and test are in train, exactly or nearly:")
        lines += [f"  {split} {one} = train {other}" for split, one, other in found["near_duplicates"]["leaked"]]
        lines.append("  Remove them from train, or from validation and test.")
    near = found["near_contradictions"]
    if count := found["contradictions"]["count"] + near["punctuation_count"]:
        lines.append(f"STRICT: {count} times the same text, up to case, spaces and punctuation, has different labels:")
        examples = [*found["contradictions"]["examples"], *near["examples"]] if near["punctuation_count"] else []
        lines += example_lines((examples or found["contradictions"]["examples"])[:_EXAMPLES])
        lines.append("  Correct the labels, or remove the rows.")
    if lines:
        raise DataError("\n".join([*lines, "Without STRICT they are counted and the command goes on."]))
