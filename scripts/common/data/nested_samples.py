"""Samples of train rows of which a larger one contains every smaller one: the first rows of one fixed order.

So a learning curve compares a model with itself on more rows, not on other rows.
"""

from collections.abc import Sequence

import numpy as np

from common.config.label_values import Label
from common.core.errors import DataError
from common.data.rows import Row


def nested_sample(rows: list[Row], count: int, labels: Sequence[Label], seed: int, balanced: bool) -> list[Row]:
    """Return `count` rows in their order; with the same seed, a sample of fewer rows is a part of it.

    The sample has one row of each label at least. Beyond that, its shares of the labels are those of all rows (method
    of Webster and Sainte-Laguë), or it has as many rows of each label as of any other, or one more.

    Args:
        rows: N rows with labels.
        count: how many.
        labels: of the dataset, in class order.
        seed: of the order in which the rows of a label are taken.
        balanced: as many rows of each label, not their shares.

    Raises:
        DataError: a label would have no row, or has too few for a balanced sample.
    """
    if count < len(labels):
        raise DataError(
            f"a sample of {count} train rows cannot have a row of each of the {len(labels)} labels; allowed are "
            f"{len(labels)} rows or more."
        )
    members: list[list[int]] = [[] for _ in labels]
    for index, row in enumerate(rows):
        assert row.label is not None  # of train rows
        members[row.label].append(index)
    order: list[tuple[float, int, int]] = []  # (when the row is taken, label, place of the row)
    for label, places in enumerate(members):
        shuffled = np.random.default_rng([seed, label]).permutation(places).tolist()
        for rank, place in enumerate(shuffled):
            share = rank if balanced else (rank + 0.5) / len(places)
            order.append((share if rank else -1.0, label, int(place)))
    taken = sorted(order)[:count]
    if balanced:
        _check_balance(members, count, labels)
    return [rows[place] for place in sorted(place for _, _, place in taken)]


def _check_balance(members: Sequence[Sequence[int]], count: int, labels: Sequence[Label]) -> None:
    each = count // len(labels)
    for label, places in zip(labels, members, strict=True):
        if len(places) < each:
            raise DataError(
                f"a balanced sample of {count} train rows needs {each} rows of the label '{label}'; there are "
                f"{len(places)}."
            )
