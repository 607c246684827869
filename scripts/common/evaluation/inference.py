"""Batched inference: rows to scores, generated texts and prediction records, in the order of the rows."""

from collections.abc import Sequence

import numpy as np
import torch

from common.config.dataset import Label
from common.core.progress import Progress
from common.data.rows import Row
from common.evaluation.metrics import Prediction
from common.evaluation.partial_results import PartialResults
from common.model.batching import token_batches
from common.model.heads import Head
from common.model.prompt_head import PromptHead

_DIGITS = 6  # decimals of a log probability; float32 has no more


def score(
    head: Head, rows: Sequence[Row], token_budget: int, what: str | Progress, partial: PartialResults | None = None
) -> np.ndarray:
    """Return natural-log probabilities (N, C) float32 of the rows.

    Args:
        head: encodes and scores rows.
        rows: N rows, with or without labels.
        token_budget: most padded tokens of a forward pass.
        what: name of a new progress line, or an existing progress to update.
        partial: results of an earlier attempt, to which the new results are added.
    """
    encoded = head.encoder.encode(rows)
    batches = token_batches([head.scoring_tokens(row) for row in encoded], token_budget)
    result: np.ndarray | None = None
    for indices, known in partial.batches if partial else ():
        result = np.empty((len(rows), len(known[0])), dtype=np.float32) if result is None else result
        result[indices] = known
    progress = Progress(what, len(rows), "row") if isinstance(what, str) else what
    was_training = head.model.training
    head.model.eval()
    with torch.inference_mode():
        for indices in partial.remaining(batches) if partial else batches:
            batch = head.scoring_batch([encoded[index] for index in indices])
            scores = head.scores({key: value.to(head.device) for key, value in batch.items()}).cpu().numpy()  # (B, C)
            if result is None:
                result = np.empty((len(rows), scores.shape[1]), dtype=np.float32)
            result[indices] = scores
            if partial:
                partial.add(indices, scores.tolist())
            progress.update(len(indices))
    if isinstance(what, str):
        progress.close()
    head.model.train(was_training)
    return result if result is not None else np.empty((0, 0), dtype=np.float32)


def generate(
    head: PromptHead,
    rows: Sequence[Row],
    token_budget: int,
    what: str | Progress,
    partial: PartialResults | None = None,
) -> list[str]:
    """Return the text that a language model generates after each of N prompts; arguments as of `score`."""
    encoded = head.encoder.encode(rows)
    batches = token_batches([len(row.input_ids) + head.encoder.longest_answer for row in encoded], token_budget)
    texts = [""] * len(rows)
    for indices, known in partial.batches if partial else ():
        for index, text in zip(indices, known, strict=True):
            texts[index] = text
    progress = Progress(what, len(rows), "row") if isinstance(what, str) else what
    head.model.eval()
    with torch.inference_mode():
        for indices in partial.remaining(batches) if partial else batches:
            written = head.generate([encoded[index] for index in indices])
            for index, text in zip(indices, written, strict=True):
                texts[index] = text
            if partial:
                partial.add(indices, written)
            progress.update(len(indices))
    if isinstance(what, str):
        progress.close()
    return texts


def predictions(
    rows: Sequence[Row],
    scores: np.ndarray,
    labels: Sequence[Label],
    generated: Sequence[str] | None = None,
    answers: Sequence[str] = (),
) -> list[Prediction]:
    """Return the records of `predictions-<split>.jsonl` for rows and their scores (N, C).

    Args:
        rows: N rows.
        scores: natural-log probabilities.
        labels: in class order.
        generated: N generated texts. If given, they decide the prediction; a text that is not a label word predicts
            None.
        answers: the label words in `generated`, in class order.
    """
    records: list[Prediction] = [
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
    if generated is not None:
        by_answer = dict(zip(map(str.strip, answers), labels, strict=True))  # generated texts are stripped, too
        for record, text in zip(records, generated, strict=True):
            record |= {"predicted": by_answer.get(text), "generated": text}
    return records
