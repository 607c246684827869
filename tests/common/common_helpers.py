"""What several test files build on: a small dataset, its rows, and finished runs made by the project's own writers."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from common import catalog, evaluation, runs
from common.config import Dataset, validate
from common.data import Row

PLAIN = {
    "schema": 1,
    "title": "Toy stance",
    "source": {"files": {"train": "train.csv"}},
    "text": ["claim", "sentence"],
    "label": "stance",
    "labels": ["con", "pro"],
}


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
) -> runs.RunConfig:
    """The configuration of a run on the toy dataset; `changes` are the dataset's."""
    job, variant = catalog.load_job(job_name, overrides)
    return runs.RunConfig(job_name, "toy", variant, seed, job, dataset(**changes), data_sha256, data_dir)


def finished_run(
    outputs: Path, config: runs.RunConfig | None = None, right: int = 3, baseline: str = "", **facts: Any
) -> Path:
    """Write a finished run over 4 test rows, of which `right` are predicted well, and return its folder."""
    config = config or run_config()
    config = dataclasses.replace(config, baseline=baseline or config.baseline)
    last = f"baseline-{baseline}" if baseline else f"seed-{config.seed}"
    folder = runs.folder(outputs, config.dataset_name, config.job_name, config.variant, last)
    folder.mkdir(parents=True)
    runs.freeze(folder, config, "make train")
    rows = [Row(id=str(number), texts=("a", "b"), label=number % 2) for number in range(4)]
    scores = np.log([[0.8, 0.2] if (row.label == 0) == (int(row.id) < right) else [0.2, 0.8] for row in rows])
    known = {
        "params_total_count": 22_713_986,
        "params_trainable_count": 1_000_000,
        "train_s": 125.0,
        "hardware": {"gpu": None, "cpu": "Intel(R) Xeon(R)", "threads": 2},
        "history": [{"epoch": 1.0, "loss": 0.7}, {"epoch": 1.0, "validation_loss": 0.6}],
    }
    evaluation.write_split(folder, config, "test", rows, scores, known | facts)
    return folder
