"""What several test files build on: a small dataset, its rows, and finished runs made by the project's own writers."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from common.config import catalog
from common.config.dataset import Dataset, ReadOptions
from common.core.schema import validate
from common.data.rows import Row
from common.runs import run_folder
from common.runs.run_config import RunConfig

PLAIN = {
    "schema": 1,
    "title": "Toy stance",
    "source": {"files": {"train": "train.csv"}},
    "text": ["claim", "sentence"],
    "label": "stance",
    "labels": ["con", "pro"],
}


# Sizes of tiny models, in transformers' words.
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def read_options(**values: object) -> ReadOptions:
    """Return the keys below `source:` that say how files are read."""
    return ReadOptions.model_validate(values)


def pair_rows(count: int) -> list[Row]:
    """Rows of different lengths, with the labels 0, 1, 2 in turn."""
    return [Row(f"r{n}", (f"Claim {n}.", "some words " * (n % 4 + 1)), n % 3) for n in range(count)]


def dataset(**changes: Any) -> Dataset:
    """The toy dataset with some keys changed; None takes a key away."""
    document = {key: value for key, value in (PLAIN | changes).items() if value is not None}
    return validate(Dataset, document, "data/toy.yaml")


def run_config(
    job_name: str = "minilm-lora",
    seed: int | None = 1,
    overrides: dict[str, Any] | None = None,
    data_sha256: str = "d" * 64,
    data_dir: str | None = None,
    **changes: Any,
) -> RunConfig:
    """The configuration of a run on the toy dataset; `changes` are the dataset's."""
    job, variant = catalog.load_job(job_name, overrides)
    return RunConfig(job_name, "toy", variant, seed, job, dataset(**changes), data_sha256, data_dir)


def finished_run(
    outputs: Path,
    config: RunConfig | None = None,
    right: int = 3,
    baseline: str = "",
    train_right: int | None = None,
    rows: int = 4,
    **facts: Any,
) -> Path:
    """Write a finished run over some test rows, of which `right` are predicted well, and return its folder.

    `train_right` scores as many train rows, too, as `make evaluate SPLIT=train` does.
    """
    from common.evaluation import write_results  # not for those who want rows and configurations alone

    config = config or run_config()
    config = dataclasses.replace(config, baseline=baseline or config.baseline)
    last = f"baseline-{baseline}" if baseline else f"seed-{config.seed}"
    folder = run_folder.folder(outputs, config.dataset_name, config.job_name, config.variant, last)
    folder.mkdir(parents=True)
    run_folder.create_run(folder, config, "make train")
    known = {
        "params_total_count": 22_713_986,
        "params_trainable_count": 1_000_000,
        "train_s": 125.0,
        "hardware": {"gpu": None, "cpu": "Intel(R) Xeon(R)", "threads": 2},
        "history": [{"epoch": 1.0, "loss": 0.7}, {"epoch": 1.0, "validation_loss": 0.6}],
    }
    for split, count in (("test", right), ("train", train_right)):
        if count is not None:
            scored = _scored(rows, count, len(config.dataset.labels))
            write_results.write_split(folder, config, split, *scored, known | facts)
    return folder


def _scored(count: int, right: int, classes: int) -> tuple[list[Row], np.ndarray]:
    """Rows whose labels take turns, and log probabilities (N, C): 0.8 for the label, or for the next one if wrong."""
    rows = [Row(id=str(number), texts=("a", "b"), label=number % classes) for number in range(count)]
    scores = np.full((count, classes), np.log(0.2 / (classes - 1)))
    for number in range(count):
        scores[number, (number + (number >= right)) % classes] = np.log(0.8)
    return rows, scores
