"""What is worth knowing about rows before a GPU is asked for: counts, duplicates, contradictions, token lengths."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from common.config import Dataset
from common.data import Row, Rows

_EXAMPLES = 5


def counts(rows: Rows, dataset: Dataset) -> dict[str, Any]:
    """Return per split the number of rows, of every label and of every group."""
    result = {}
    for split, members in rows.items():
        by_label = Counter(row.label for row in members)
        by_group = Counter(row.group for row in members if row.group is not None)
        result[split] = {
            "n": len(members),
            "labels": {str(label): by_label[index] for index, label in enumerate(dataset.labels)},
            "groups": dict(sorted(by_group.items())),
        }
    return result


def _key(row: Row) -> tuple[str, ...]:
    """What makes two rows the same to a model, up to case and spaces."""
    return tuple(" ".join(text.casefold().split()) for text in row.texts)


def duplicates(rows: Rows) -> dict[str, dict[str, int]]:
    """Return how many rows repeat an earlier one of their split, and how many a later split shares with an earlier.

    Texts are compared without regard to case and spaces.
    """
    keys = {split: [_key(row) for row in members] for split, members in rows.items()}
    within = {split: len(found) - len(set(found)) for split, found in keys.items()}
    between = {}
    for first, second in combinations(keys, 2):
        known = set(keys[first])
        between[f"{second} in {first}"] = sum(key in known for key in keys[second])
    return {"within": within, "between": between}


def contradictions(rows: Rows, dataset: Dataset) -> dict[str, Any]:
    """Return how many texts carry different labels, with a few examples as [[split, id, label], …]."""
    places: dict[tuple[str, ...], list[tuple[str, Row]]] = defaultdict(list)
    for split, members in rows.items():
        for row in members:
            places[_key(row)].append((split, row))
    torn = [found for found in places.values() if len({row.label for _, row in found}) > 1]
    examples = [
        [[split, row.id, str(dataset.labels[row.label])] for split, row in found if row.label is not None]
        for found in torn[:_EXAMPLES]
    ]
    return {"count": len(torn), "examples": examples}


def token_lengths(lengths: Sequence[int], truncated: int) -> dict[str, Any]:
    """Return minimum, median, 95th percentile and maximum of token counts, and the share of truncated rows."""
    return {
        "min": int(min(lengths)),
        "median": float(np.median(lengths)),
        "p95": float(np.percentile(lengths, 95)),
        "max": int(max(lengths)),
        "truncated_count": truncated,
        "truncated_share": truncated / len(lengths),
    }
