"""Compare the test scores of an export with those of its run: changed labels, and the metrics of both."""

import dataclasses
from typing import Any

import numpy as np
from scipy.stats import binomtest

from common.evaluation import metrics, write_results
from common.export.source import TrainedRun

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How an export scores the test rows.

    Attributes:
        rows: number of test rows.
        changed: rows whose most probable label is another than the run's.
        largest: largest difference of a log probability.
        scores: of the export, natural-log probabilities (N, C).
        run_metrics, metrics: of the run's and of the export's scores, as `evaluation.metrics.compute` returns them.
    """

    rows: int
    changed: int
    largest: float
    scores: np.ndarray
    run_metrics: dict[str, Any]
    metrics: dict[str, Any]

    def plain(self) -> dict[str, Any]:
        """Return the content of proof.json."""
        return {
            "test_rows_count": self.rows,
            "changed_labels_count": self.changed,
            "largest_difference": self.largest,
            "run": _headline(self.run_metrics),
            "export": _headline(self.metrics),
        }

    def sentence(self) -> str:
        """Return what changed, in a sentence."""
        if not self.changed and self.largest < 1e-3:
            return f"the labels of all {self.rows} test rows are those of the run"
        then, now = (_shown(found) for found in (self.run_metrics, self.metrics))
        return (
            f"the labels of {self.changed} of {self.rows} test rows differ from those of the run, since the export's "
            f"numbers are rounded differently; accuracy {then} → {now}"
        )


def compare(run: TrainedRun, scores: np.ndarray) -> Comparison:
    """Compare test scores (N, C) with those of the run."""
    labels = run.dataset.labels
    both = [
        metrics.compute(write_results.predictions(run.rows, found, labels), labels, run.dataset.mean_f1_labels)
        for found in (run.scores, scores)
    ]
    changed = int((run.scores.argmax(axis=1) != scores.argmax(axis=1)).sum())
    return Comparison(len(run.rows), changed, float(np.abs(run.scores - scores).max()), scores, *both)


def interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of rows, by Wilson (1927), https://doi.org/10.2307/2276774."""
    found = binomtest(round(share * count), count).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def _headline(found: dict[str, Any]) -> dict[str, Any]:
    low, high = interval(found["accuracy"], found["n"])
    return {"accuracy": found["accuracy"], "accuracy_interval_95": [low, high], "f1_macro": found["f1_macro"]}


def _shown(found: dict[str, Any]) -> str:
    low, high = interval(found["accuracy"], found["n"])
    return f"{found['accuracy']:.4f} (95 % {low:.4f} to {high:.4f})"
