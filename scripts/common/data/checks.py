"""Summarize the rows of a dataset for `make check`: counts, duplicates, contradicting labels, token lengths."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from common.config.dataset import Dataset
from common.core.formatting import one_line, text_table
from common.data.near_duplicates import how_compared
from common.data.rows import Row, Rows
from common.data.visible_text import is_damaged

_EXAMPLES = 5
_WARN_SHARE = 0.01  # of tokens or rows
# A number, a boolean, or what programs write for a missing value.
_NUMBER = re.compile(
    r"\s*(?:[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|true|false|nan|none|null|n/?a|<na>|#n/a|\\n)\s*", re.IGNORECASE
)


def count_rows(rows: Rows, dataset: Dataset) -> dict[str, Any]:
    """Return {split: {"n": rows, "labels": {label: rows}, "groups": {group: rows}, "number_texts": {column: rows},
    "damaged_texts": rows}}.

    "number_texts" are rows whose text is a number, true, false or a word for a missing value and nothing else, as in a
    column of another kind; it does not matter whether the file stores it as a number or as text.
    """
    result = {}
    for split, members in rows.items():
        by_label = Counter(row.label for row in members)
        by_group = Counter(row.group for row in members if row.group is not None)
        result[split] = {
            "n": len(members),
            "labels": {str(label): by_label[index] for index, label in enumerate(dataset.labels)},
            "groups": dict(sorted(by_group.items())),
            "number_texts": {
                column: sum(_NUMBER.fullmatch(row.texts[place]) is not None for row in members)
                for place, column in enumerate(dataset.text)
            },
            "damaged_texts": sum(any(map(is_damaged, row.texts)) for row in members),
        }
    return result


def key(row: Row) -> tuple[str, ...]:
    """Return the texts of a row without differences of case and spaces; equal keys mean duplicates."""
    return tuple(" ".join(text.casefold().split()) for text in row.texts)


def count_duplicates(rows: Rows) -> dict[str, dict[str, int]]:
    """Count rows that repeat an earlier row of their split, and rows of a later split that are in an earlier one.

    Texts that differ in case or spaces only are equal.

    Returns:
        {"within": {split: rows}, "between": {"<later split> in <earlier split>": rows}}.
    """
    keys = {split: [key(row) for row in members] for split, members in rows.items()}
    within = {split: len(found) - len(set(found)) for split, found in keys.items()}
    between = {}
    for first, second in combinations(keys, 2):
        earlier = set(keys[first])
        between[f"{second} in {first}"] = sum(key in earlier for key in keys[second])
    return {"within": within, "between": between}


def find_contradictions(rows: Rows, dataset: Dataset) -> dict[str, Any]:
    """Find equal texts with different labels.

    Returns:
        {"count": texts, "examples": some of them, each as [[split, id, label], …]}.
    """
    places: dict[tuple[str, ...], list[tuple[str, Row]]] = defaultdict(list)
    for split, members in rows.items():
        for row in members:
            places[key(row)].append((split, row))
    contradicting = [found for found in places.values() if len({row.label for _, row in found}) > 1]
    examples = [
        [[split, row.id, str(dataset.labels[row.label])] for split, row in found if row.label is not None]
        for found in contradicting[:_EXAMPLES]
    ]
    return {"count": len(contradicting), "examples": examples}


def summarize_token_lengths(lengths: Sequence[int], truncated: int) -> dict[str, Any]:
    """Return minimum, median, 95th percentile and maximum of token counts, and how many rows are truncated.

    Args:
        lengths: tokens per row, before truncation.
        truncated: number of truncated rows.
    """
    return {
        "min": int(min(lengths)),
        "median": float(np.median(lengths)),
        "p95": float(np.percentile(lengths, 95)),
        "max": int(max(lengths)),
        "truncated_count": truncated,
        "truncated_share": truncated / len(lengths),
    }


def summarize_token_ids(
    rows: Sequence[Row], ids: Sequence[Sequence[int]], unknown: int | None, spelled: int
) -> dict[str, Any]:
    """Return what a model cannot see of the texts: unknown tokens, and different texts with the same token ids.

    Texts that differ in case or spaces only are equal.

    Args:
        rows: of a split.
        ids: the token ids of every row, after truncation.
        unknown: the id of the token of unknown words, None if the tokenizer has none.
        spelled: number of rows that spell a special token.

    Returns:
        unknown_token_count and unknown_token_share (of all tokens), collapsed_count and collapsed_share (rows whose
        token ids another row with other texts has, too), special_spelled_count.
    """
    tokens = sum(map(len, ids))
    count = 0 if unknown is None else sum(list(one).count(unknown) for one in ids)
    texts: dict[tuple[int, ...], set[tuple[str, ...]]] = defaultdict(set)
    for row, one in zip(rows, ids, strict=True):
        texts[tuple(one)].add(key(row))
    collapsed = sum(len(texts[tuple(one)]) > 1 for one in ids)
    return {
        "unknown_token_count": count,
        "unknown_token_share": count / max(tokens, 1),
        "collapsed_count": collapsed,
        "collapsed_share": collapsed / max(len(rows), 1),
        "special_spelled_count": spelled,
    }


def describe(found: dict[str, Any], dataset: Dataset, max_length: int) -> list[str]:
    """Return the lines that `make check` prints about rows, tokens, duplicates and contradictions.

    Args:
        found: results of the functions above: "splits" of `count_rows`, "tokens" {split: `summarize_token_lengths` and
            `summarize_token_ids`}, and those of `leaks.find_leaks`.
        dataset: gives the labels and the name of the group column.
        max_length: tokens after which a row is truncated.
    """
    labels = [str(label) for label in dataset.labels]
    lines = ["", "Rows", _count_table(found["splits"], "labels", labels)]
    groups = sorted({group for split in found["splits"].values() for group in split["groups"]})
    if groups:
        lines += ["", f"Rows by {one_line(str(dataset.group))}", _group_table(found["splits"], groups)]
    return [*lines, "", f"Tokens (max_length {max_length})", _token_table(found["tokens"]), "", *_problem_lines(found)]


def _count_table(splits: dict[str, Any], key: str, names: list[str]) -> str:
    return text_table(
        ["split", "rows", *names],
        [[split, str(part["n"]), *(str(part[key].get(name, 0)) for name in names)] for split, part in splits.items()],
    )


def _group_table(splits: dict[str, Any], groups: list[str]) -> str:
    return text_table(
        ["group", *splits],
        [[group, *(str(part["groups"].get(group, 0)) for part in splits.values())] for group in groups],
    )


def _token_table(tokens: dict[str, Any]) -> str:
    rows = [
        [
            split,
            str(t["min"]),
            f"{t['median']:g}",
            f"{t['p95']:g}",
            str(t["max"]),
            f"{t['truncated_count']} ({t['truncated_share']:.1%})",
        ]
        for split, t in tokens.items()
    ]
    return text_table(["split", "min", "median", "p95", "max", "truncated"], rows)


def _problem_lines(found: dict[str, Any]) -> list[str]:
    repeated = [f"{count} in {split}" for split, count in found["duplicates"]["within"].items() if count]
    shared = [f"{count} of {pair}" for pair, count in found["duplicates"]["between"].items() if count]
    contradictions, near = found["contradictions"], found["near_duplicates"]
    nearly = [f"{count} in {split}" for split, count in near["within"].items() if count]
    nearly += [f"{count} of {pair}" for pair, count in near["between"].items() if count]
    near_contradictions = found["near_contradictions"]
    lines = [
        f"Repeated rows: {', '.join(repeated) or 'none'}",
        f"Rows shared between splits: {', '.join(shared) or 'none'}",
        f"Identical texts with different labels: {contradictions['count'] or 'none'}",
    ]
    lines += example_lines(contradictions["examples"])
    about = how_compared(near)
    lines.append(f"Nearly repeated rows, beside these: {', '.join(nearly) or 'none'}{about}")
    lines += [f"  {one_line(f'{split} {one} = train {other}')}" for split, one, other in near["leaked"]]
    lines.append(f"Nearly identical texts with different labels: {near_contradictions['count'] or 'none'}")
    return [*lines, *example_lines(near_contradictions["examples"]), *reading_lines(found)]


def example_lines(examples: list[Any]) -> list[str]:
    """Return a line for each example of texts with different labels."""
    return [
        "  " + one_line("; ".join(f"{split} {row_id} = {label}" for split, row_id, label in one)) for one in examples
    ]


def reading_counts(found: dict[str, Any]) -> dict[str, int]:
    """Return what `reading_lines` is about as fields of metrics.json, each a number of all splits together."""
    names = ("unknown_token_count", "collapsed_count", "special_spelled_count")
    counts = {name: sum(part[name] for part in found["tokens"].values()) for name in names}
    splits = found["splits"].values()
    about = {
        "number_text_count": sum(sum(part["number_texts"].values()) for part in splits),
        "damaged_text_count": sum(part["damaged_texts"] for part in splits),
    }
    return about | counts


def reading_lines(found: dict[str, Any]) -> list[str]:
    """Return the lines about texts that are numbers, and about what the tokenizer makes of texts.

    A warning is among them where the model cannot see the texts.

    Args:
        found: "splits" of `count_rows`, "tokens" {split: `summarize_token_ids`}.
    """
    tokens = found["tokens"]

    def shares(name: str) -> str:
        parts = [
            f"{t[f'{name}_count']} in {split} ({t[f'{name}_share']:.1%})"
            for split, t in tokens.items()
            if t[f"{name}_count"]
        ]
        return ", ".join(parts) or "none"

    spelled = [f"{t['special_spelled_count']} in {split}" for split, t in tokens.items() if t["special_spelled_count"]]
    numbers = [
        f"{count} in {split}, column '{one_line(column)}'"
        for split, part in found["splits"].items()
        for column, count in part["number_texts"].items()
        if count
    ]
    damaged = [
        f"{part['damaged_texts']} in {split}" for split, part in found["splits"].items() if part["damaged_texts"]
    ]
    lines = [
        f"Texts that are a number, true, false or a word such as nan alone: {'; '.join(numbers) or 'none'}",
        f'Rows whose texts were read in a wrong encoding once ("Ã¼", U+FFFD): {", ".join(damaged) or "none"}',
        f"Unknown tokens: {shares('unknown_token')}",
        f"Rows with the same tokens as a row of other texts: {shares('collapsed')}",
        f"Rows that spell a special token, which is read as ordinary text: {', '.join(spelled) or 'none'}",
    ]
    if any(t["unknown_token_share"] > _WARN_SHARE for t in tokens.values()):
        lines.append(
            "WARNING: more than 1 % of the tokens are unknown to the tokenizer: the model cannot tell these words "
            "apart. Choose a model whose tokenizer knows the language and script of the texts."
        )
    if any(t["collapsed_share"] > _WARN_SHARE for t in tokens.values()):
        lines.append(
            "WARNING: more than 1 % of the rows have the same tokens as a row of other texts: the model cannot tell "
            "them apart. Unknown tokens are one reason, truncation another (max_length, truncation)."
        )
    return lines
