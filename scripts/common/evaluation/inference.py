"""Batched inference: rows to scores and generated texts, in the order of the rows; a whole split to its files."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from common.core.errors import ModelError
from common.core.progress import Progress
from common.data.rows import Row
from common.evaluation import partial_results, write_results
from common.evaluation.memory_limit import Halving, used_budget
from common.evaluation.partial_results import PartialResults
from common.methods.merged import merged_lora
from common.model.batching import Batch, Encoded, most_tokens, moved, pinned, token_batches
from common.model.heads import Head
from common.model.prompt_head import PromptHead
from common.runs.documents import Metrics
from common.runs.run_config import RunConfig, job_of


def score(
    head: Head, rows: Sequence[Row], token_budget: int, what: str | Progress, partial: PartialResults | None = None
) -> np.ndarray:
    """Return natural-log probabilities (N, C) float32 of the rows, calibrated where the head has a prior.

    Args:
        head: encodes and scores rows.
        rows: N rows, with or without labels.
        token_budget: most padded tokens of a forward pass.
        what: name of a new progress line, or an existing progress to update.
        partial: results of an earlier attempt, to which the new results are added.
    """
    encoded = head.encoder.encode(rows)
    batches = head.scoring_groups(encoded, token_budget)
    remaining = list(partial.remaining(batches) if partial else batches)
    result: np.ndarray | None = None
    for indices, known in partial.batches if partial else ():
        result = np.empty((len(rows), len(known[0])), dtype=np.float32) if result is None else result
        result[indices] = known
    progress = Progress(what, len(rows), "row") if isinstance(what, str) else what
    was_training = head.model.training
    head.model.eval()
    with merged_lora(head.model, head.precision), torch.inference_mode():
        prior = head.prior()
        padded, halving = _PaddedAhead(head, encoded, remaining), Halving("scoring", head)

        def score_part(indices: Sequence[int]) -> np.ndarray:
            found = head.scores(padded.take(indices))  # (B, C); on a GPU this returns before it is done
            padded.prepare_next()
            return (found if prior is None else F.log_softmax(found - prior, dim=-1)).cpu().numpy()

        for indices in remaining:
            scores = np.concatenate([part for _, part in halving.run(indices, score_part)])
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


class _PaddedAhead:
    """Pads a batch of rows while a GPU works on the one before.

    Args:
        head: pads rows.
        encoded: all rows.
        batches: indices of the rows of each batch, in the order in which they are taken.
    """

    def __init__(self, head: Head, encoded: Sequence[Encoded], batches: Sequence[Sequence[int]]) -> None:
        self.head, self.encoded, self.coming = head, encoded, iter(batches)
        self.indices: Sequence[int] | None = None
        self.prepare_next()

    def prepare_next(self) -> None:
        """Pad the next batch, unless the one that was padded last has not been taken."""
        if self.indices is None and (indices := next(self.coming, None)) is not None:
            self.indices, self.batch = indices, self._padded(indices)

    def take(self, indices: Sequence[int]) -> Batch:
        """Return the batch of these rows on the head's device: the next one, or a part of it."""
        if self.indices is not None and list(indices) == list(self.indices):
            batch = self.batch
        else:
            batch = self._padded(indices)
        self.indices = None if self.indices is None or set(indices) <= set(self.indices) else self.indices
        return moved(batch, self.head.device)

    def _padded(self, indices: Sequence[int]) -> Batch:
        return pinned(self.head.scoring_batch([self.encoded[index] for index in indices]), self.head.device)


def generate(
    head: PromptHead,
    rows: Sequence[Row],
    token_budget: int,
    what: str | Progress,
    partial: PartialResults | None = None,
) -> list[str]:
    """Return the text that a language model generates after each of N prompts; arguments as of `score`."""
    encoded = head.encoder.encode(rows)
    lengths = [len(row.input_ids) + head.encoder.longest_answer for row in encoded]
    batches = token_batches(lengths, most_tokens(token_budget, head.model))
    remaining = list(partial.remaining(batches) if partial else batches)
    texts = [""] * len(rows)
    for indices, known in partial.batches if partial else ():
        for index, text in zip(indices, known, strict=True):
            texts[index] = text
    progress = Progress(what, len(rows), "row") if isinstance(what, str) else what
    head.model.eval()
    with merged_lora(head.model, head.precision), torch.inference_mode():
        halving = Halving("generating", head)
        for indices in remaining:
            parts = halving.run(indices, lambda part: head.generate([encoded[index] for index in part]))
            written = [text for _, texts_of_part in parts for text in texts_of_part]
            for index, text in zip(indices, written, strict=True):
                texts[index] = text
            if partial:
                partial.add(indices, written)
            progress.update(len(indices))
    if isinstance(what, str):
        progress.close()
    return texts


def score_split(
    folder: Path,
    config: RunConfig,
    split: str,
    rows: Sequence[Row],
    head: Head,
    facts: dict[str, Any],
    resume: bool = False,
) -> Metrics:
    """Score a split with a model, write its predictions and metrics (see `write_split`), and return the metrics.

    With `resume`, partial results of an earlier attempt are used, and new ones are saved while scoring.
    """
    job = job_of(config)
    budget = job.runtime.score_token_budget
    start = time.perf_counter()
    with _progress(folder, f"score {split}", len(rows), resume) as (progress, partial):
        scores = score(head, rows, budget, progress, partial)
    if not np.isfinite(scores).all():
        partial_results.remove(folder)
        wrong = int((~np.isfinite(scores)).any(axis=1).sum())
        raise ModelError(
            f"{folder}: {wrong} of {len(rows)} rows of {split} have scores that are not finite: training has "
            "diverged. Lower training.learning_rate, or raise training.warmup_steps."
        )
    facts = facts | {"score_token_budget": used_budget(head, budget)}
    seconds = partial.seconds if partial else time.perf_counter() - start
    if split != "train":  # `train_s` is the time of training
        facts = facts | {f"{split}_s": round(seconds, 3), f"{split}_examples_per_s": round(len(rows) / seconds, 2)}
    if not isinstance(head, PromptHead):
        return write_results.write_split(folder, config, split, rows, scores, facts)
    facts |= {key: getattr(job, key) for key in ("decoding", "length_normalization", "calibration")}
    if job.decoding == "score":
        return write_results.write_split(folder, config, split, rows, scores, facts)
    with _progress(folder, f"generate {split}", len(rows), resume) as (progress, partial):
        generated = generate(head, rows, budget, progress, partial)
    return write_results.write_split(folder, config, split, rows, scores, facts, generated, head.encoder.label_words)


@contextlib.contextmanager
def _progress(folder: Path, what: str, rows: int, resume: bool) -> Iterator[tuple[Progress, PartialResults | None]]:
    with contextlib.ExitStack() as stack:
        partial = stack.enter_context(PartialResults(folder, what)) if resume else None
        done = partial.rows if partial else 0
        yield stack.enter_context(Progress(what, rows, "row", done=done, folder=folder)), partial
