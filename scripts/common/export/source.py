"""The trained run that is exported: its recorded config, its model, and the test rows with their predictions."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from common.config.dataset import Dataset
from common.config.job import Job
from common.core.errors import RunError
from common.core.files import read_json, read_jsonl
from common.data.load import load_rows
from common.data.rows import Row, rows_fingerprint
from common.evaluation.write_results import metrics_file, predictions_file
from common.hub.locate import SAVED
from common.runs import run_folder
from common.runs.run_config import RunConfig, job_of


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A finished run.

    Attributes:
        folder: of the run.
        config: recorded in it.
        saved: the description of its saved model, `model/peftable.json`.
        rows: the test rows.
        scores: their natural-log probabilities (N, C), of `predictions-test.jsonl`.
        metrics: `metrics.json`.
    """

    folder: Path
    config: RunConfig
    saved: dict[str, Any]
    rows: list[Row]
    scores: np.ndarray
    metrics: dict[str, Any]

    @property
    def job(self) -> Job:
        """The run's job."""
        return job_of(self.config)

    @property
    def dataset(self) -> Dataset:
        """The run's dataset, with its labels."""
        return self.config.dataset

    @property
    def model(self) -> Path:
        """The folder of the saved model."""
        return self.folder / run_folder.MODEL

    @property
    def counts(self) -> dict[str, int]:
        """The number of rows of each split, as far as the run recorded it."""
        file = metrics_file(self.folder, "validation")
        validation = read_json(file).get("validation_n") if file.is_file() else None
        known = {"train": self.metrics.get("train_count"), "validation": validation, "test": len(self.rows)}
        return {split: int(count) for split, count in known.items() if count is not None}


def load_trained_run(folder: Path, config: RunConfig) -> TrainedRun:
    """Return a finished run with its test rows, which must be those of its training.

    Raises:
        RunError: the run is not finished, or its rows have changed.
        DataError: its rows cannot be read.
    """
    if not run_folder.is_finished(folder):
        raise RunError(f"{folder}: the run is not finished, so its model is not proven on test. Finish it first.")
    rows = load_rows(config.dataset, Path(config.data_dir) if config.data_dir else None)
    run_folder.check_same_data(folder, config, rows_fingerprint(rows))
    records = {record["id"]: record for record in read_jsonl(predictions_file(folder, "test"))}
    test = rows["test"]
    if set(records) != {row.id for row in test}:
        raise RunError(
            f"{predictions_file(folder, 'test')}: its rows are not the test rows. Score them again: make evaluate "
            f"MODEL={config.job_name}"
        )
    labels = [str(label) for label in config.dataset.labels]
    scores = np.array([[records[row.id]["scores"][label] for label in labels] for row in test], dtype=np.float64)
    return TrainedRun(
        folder,
        config,
        read_json(folder / run_folder.MODEL / SAVED),
        test,
        scores,
        read_json(folder / run_folder.METRICS),
    )
