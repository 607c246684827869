"""Fake data for smoke runs: rows in a dataset's columns, made of the sample corpus, and settings for a short run."""

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.config.catalog import ROOT
from common.config.dataset import Dataset
from common.config.job import Job
from common.config.methods import LastLayers
from common.core.files import write_jsonl
from common.data.table_reader import read_table

LAYERS = 4  # of a tiny random model
_COUNTS = {"train": 36, "validation": 12, "test": 12}


@functools.cache
def corpus() -> tuple[tuple[str, str], ...]:
    """Return the sample corpus's train rows as (claim, sentence)."""
    frame = read_table(ROOT / "data" / "sample" / "train.xlsx")
    return tuple(zip(map(str, frame["claim"]), map(str, frame["sentence"]), strict=True))


def write_rows(dataset: Dataset, folder: Path) -> Path:
    """Write {train,validation,test}.jsonl in a dataset's columns, with rows of every label in every split.

    Args:
        dataset: its columns and labels.
        folder: for the files.

    Returns:
        The folder, for DATA_DIR.
    """
    pairs = itertools.cycle(corpus())
    for split, count in _COUNTS.items():
        count = max(count, 2 * len(dataset.labels))
        write_jsonl(folder / f"{split}.jsonl", [_row(dataset, split, number, pairs) for number in range(count)])
    return folder


def _row(dataset: Dataset, split: str, number: int, pairs: Iterator[tuple[str, str]]) -> dict[str, Any]:
    claim, sentence = next(pairs)
    # A single text is a sentence; of several, the first is a claim and the others are sentences.
    texts = [sentence] if len(dataset.text) == 1 else [claim, sentence]
    texts += [next(pairs)[1] for _ in dataset.text[2:]]
    row: dict[str, Any] = {dataset.label: dataset.labels[number % len(dataset.labels)]}
    row |= {dataset.group: claim} if dataset.group else {}
    row |= {dataset.weight: 1 + number % 2} if dataset.weight else {}
    row |= {dataset.id: f"{split}-{number}"} if dataset.id else {}
    return row | dict(zip(dataset.text, texts, strict=True))


def overrides(job: Job) -> list[str]:
    """Return the settings that make a job's run short, in the form of --set; precision and method stay the job's."""
    small, method = ["training.epochs=1"], job.method
    if job.training.eval_every != "epoch":
        small.append("training.eval_every=epoch")  # a short run has fewer steps
    if isinstance(method, LastLayers) and method.k > LAYERS:
        small.append(f"method.k={LAYERS}")
    if getattr(method, "layers_to_transform", None) is not None:
        small.append(f"method.layers_to_transform=[{LAYERS - 1}]")
    return small
