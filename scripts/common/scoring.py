"""Batched inference: rows to prediction records, longest rows first, in the order they came."""

from collections.abc import Sequence

import numpy as np
import torch

from common.batching import collate, token_batches
from common.config import Label
from common.data import Row
from common.heads import ClassificationHead
from common.metrics import Prediction
from common.progress import Progress

_DIGITS = 6  # of a log probability; more would be float32 noise


def score(head: ClassificationHead, rows: Sequence[Row], token_budget: int, what: str) -> np.ndarray:
    """Return natural-log probabilities (N, C) float32 of the rows.

    Args:
        head: encodes and scores.
        rows: N rows, labelled or not.
        token_budget: padded tokens of a forward pass.
        what: name for the progress line.
    """
    encoded = head.encoder.encode(rows)
    result: np.ndarray | None = None
    progress = Progress(what, len(rows), "row")
    was_training = head.model.training
    head.model.eval()
    with torch.inference_mode():
        for indices in token_batches([len(row.input_ids) for row in encoded], token_budget):
            batch = collate([encoded[index] for index in indices], head.pad_token_id)
            scores = head.scores({key: value.to(head.device) for key, value in batch.items()}).cpu().numpy()  # (B, C)
            if result is None:
                result = np.empty((len(rows), scores.shape[1]), dtype=np.float32)
            result[indices] = scores
            progress.update(len(indices))
    progress.close()
    head.model.train(was_training)
    return result if result is not None else np.empty((0, 0), dtype=np.float32)


def predictions(rows: Sequence[Row], scores: np.ndarray, labels: Sequence[Label]) -> list[Prediction]:
    """Join rows and scores (N, C) to the records of `predictions-<split>.jsonl`."""
    return [
        {
            "id": row.id,
            "group": row.group,
            "gold": None if row.label is None else labels[row.label],
            "predicted": labels[int(row_scores.argmax())],
            "scores": {
                str(label): round(float(value), _DIGITS) for label, value in zip(labels, row_scores, strict=True)
            },
        }
        for row, row_scores in zip(rows, scores, strict=True)
    ]
