"""A saved model that scores rows; it is loaded when the first rows come."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.core.progress import Progress
from common.data.rows import Row
from common.runs.run_config import RunConfig, job_of


class Scorer:
    """Scores rows with a saved model, which is loaded for the first rows.

    Args:
        config: of the run.
        folder: a run's model/, or an adapter that peft saved.
        adapter: whether `folder` is such an adapter.
    """

    def __init__(self, config: RunConfig, folder: Path, adapter: bool) -> None:
        self.config, self.folder, self.adapter = config, folder, adapter

    @functools.cached_property
    def head(self) -> Any:
        """The model, loaded."""
        from common.model import exported
        from common.model.load import quiet_libraries

        quiet_libraries()
        return exported.load(job_of(self.config), self.config.dataset, self.folder, self.adapter)

    def announce(self) -> None:
        """Print the device on which rows are scored."""
        from common.model import device

        device.announce()

    @property
    def gpu(self) -> str | None:
        """The name of the GPU that the model runs on, None on a CPU; loads the model."""
        from common.runs import provenance

        return provenance.hardware()["gpu"] if self.head.device.type == "cuda" else None

    def __call__(self, rows: Sequence[Row], progress: Progress | None = None) -> np.ndarray:
        """Return natural-log probabilities (N, C), also where the job generates: every text gets a label."""
        from common.evaluation import inference

        budget = job_of(self.config).runtime.score_token_budget
        return inference.score(self.head, rows, budget, progress or "predict")
