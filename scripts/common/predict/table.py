"""Predict one table or one text in this process, without a plan."""

import time
from pathlib import Path

import numpy as np

from common.core.formatting import duration
from common.data.rows import to_rows
from common.data.table_reader import read_table
from common.data.table_writer import write_table
from common.predict.columns import check_free_columns, with_predictions
from common.predict.inputs import one_row, reading_input
from common.predict.scorer import Scorer


def predict_table(source: Path, output: Path, scorer: Scorer) -> str:
    """Write a table with the prediction columns added, and return a line that says so.

    Raises:
        DataError: a row is wrong, or the table has a column of that name already.
    """
    dataset = scorer.config.dataset
    with reading_input():
        frame = read_table(source)
        check_free_columns(frame.columns.tolist(), dataset.labels, source)
        rows = to_rows(frame, dataset, str(source), "input", labelled=False)
    scorer.announce()
    start = time.perf_counter()
    scores = scorer(rows)
    seconds = time.perf_counter() - start
    write_table(output, with_predictions(frame, scores, dataset.labels))
    rate = len(rows) / seconds
    return f"{output}: {len(rows)} rows predicted in {duration(seconds)} ({rate:.1f} rows/s, loading included)"


def predict_text(text: str, scorer: Scorer) -> str:
    """Return the predicted label of TEXT=, then a line for each label with its probability, the most probable first.

    Raises:
        DataError: the dataset needs another number of texts.
    """
    labels = scorer.config.dataset.labels
    scores = scorer([one_row(text, scorer.config.dataset)])[0]
    lines = [f"  {labels[index]!s:<12} {np.exp(scores[index]):.4f}" for index in np.argsort(-scores)]
    return "\n".join([str(labels[int(scores.argmax())]), *lines])
