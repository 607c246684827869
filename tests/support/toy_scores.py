"""Tables of awkward texts, and scores that need no model: they are computed from each row's own text."""

import numpy as np
import pandas as pd

from common.core import files

TEXTS = ["plain", 'say "no", twice', "two\nlines", "naïve – 中文 😀", "one\u2028two\x85three", "007", "NA", "tab\there"]


class Score:
    """A row's log probabilities, from its text alone; `fails_after` parts it is killed."""

    gpu = None

    def __init__(self, fails_after: int | None = None) -> None:
        self.fails_after, self.rows = fails_after, []

    def __call__(self, rows, progress):
        if self.fails_after is not None and len(self.rows) == self.fails_after:
            raise KeyboardInterrupt
        self.rows.append(len(rows))
        progress.update(len(rows))
        return truth([row.texts[1] for row in rows])


def truth(texts):
    share = np.array([int(files.sha256(text.encode())[:6], 16) / 2**24 * 0.98 + 0.01 for text in texts])
    return np.log(np.stack([share, 1 - share], axis=1)).astype(np.float32).reshape(-1, 2)


def table(count: int, first: int = 0) -> pd.DataFrame:
    rows = [
        {"id": f"r{n} \"'\n", "claim": "C.", "sentence": f"{TEXTS[n % 8]} {n}", "n": str(n)}
        for n in range(first, first + count)
    ]
    return pd.DataFrame(rows, columns=["id", "claim", "sentence", "n"], dtype=object)
