"""Give every row the first text of another row of its split: a model that uses the pair then scores lower."""

import dataclasses

import numpy as np

from common.data.rows import Rows


def shuffle_first_texts(rows: Rows, seed: int) -> Rows:
    """Return the rows with their first texts permuted within each split.

    The permutation is one cycle through the rows of a split in random order, so no row keeps its own text; it may get
    an equal text of another row. A split of one row stays as it is.

    Args:
        rows: of all splits.
        seed: the same seed permutes the same rows in the same way.
    """
    found: Rows = {}
    for split, members in rows.items():
        order = np.random.default_rng([seed, len(members)]).permutation(len(members))
        texts = [row.texts for row in members]
        given = {int(place): int(other) for place, other in zip(order, np.roll(order, 1), strict=True)}
        found[split] = [
            dataclasses.replace(row, texts=(texts[given[place]][0], *row.texts[1:]))
            for place, row in enumerate(members)
        ]
    return found
