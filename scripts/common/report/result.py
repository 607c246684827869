"""A result: a job, a variant of it or a baseline on one dataset, with the metrics of its seeds."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.config.job import STRATIFIED
from common.evaluation import label_counts
from common.evaluation.intervals import Interval
from common.evaluation.outcomes import Outcomes
from common.evaluation.resampling import Units
from common.report import statistics
from common.report.finished_runs import FinishedRun, on_validation
from common.report.statistics import Cache
from common.runs.documents import Metrics, value

METRIC_NAMES = {
    "accuracy": "accuracy",
    "f1_macro": "macro-F1",
    "f1_weighted": "weighted F1",
    "matthews_corrcoef": "MCC",
}
_WITHOUT_TRAINING = ("majority", "untuned", "zero-shot")  # baselines that learn from no train rows


@dataclasses.dataclass(frozen=True)
class Result:
    """One (dataset, job, variant) or baseline over its seeds.

    Attributes:
        dataset, job, variant, baseline: their names; baseline is "" for a fine-tuned model.
        documents: the metrics.json of every seed, by ascending seed, with the metrics of validation and train where
            these splits were scored.
        settings: the job's settings that change results, by dotted key; of a classical baseline those of its sample.
        outcomes: of the test rows, by seed as `documents`; None for a seed that was published without.
        folds: number of folds, each of which was the test rows of one run; 0 for test rows of one run.
        folders: the run folders of every seed, in the order of the documents: one, or that of each fold.
        texts: names of the text columns.
        fold_runs: the runs of every seed by fold; empty without folds.
        cache: of the statistics.
    """

    dataset: str
    job: str
    variant: str
    baseline: str
    documents: tuple[Metrics, ...]
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    outcomes: tuple[Outcomes | None, ...] = ()
    folds: int = 0
    folders: tuple[tuple[Path, ...], ...] = ()
    texts: tuple[str, ...] = ()
    fold_runs: tuple[tuple[FinishedRun, ...], ...] = ()
    cache: Cache = dataclasses.field(default_factory=Cache, compare=False)

    @property
    def name(self) -> str:
        """The name of the result in tables."""
        if self.baseline:
            words = {
                "majority": "majority class",
                "tfidf": "TF-IDF + logistic regression",
                "embedding": f"{self.job}, embedding + logistic regression",
            }
            name = words.get(self.baseline, f"{self.job}, {self.baseline}")
        else:
            name = self.job
        facts = [self.variant, f"{self.folds} folds" if self.folds else ""]
        return f"{name} ({', '.join(filter(None, facts))})" if any(facts) else name

    def values(self, key: str) -> list[float]:
        """Return a metric of every seed that has it."""
        return [found for document in self.documents if (found := value(document, key)) is not None]

    def mean(self, key: str) -> float | None:
        """Return the mean of a metric over the seeds, None when unmeasured."""
        values = self.values(key)
        return sum(values) / len(values) if values else None

    @property
    def method(self) -> str:
        """The fine-tuning method, such as "lora"; "" for a classical baseline."""
        return str(self.settings.get("method.name", ""))

    @property
    def ablation(self) -> str:
        """Which text the model does not read as its row has it, such as "second-text"; "" for the whole row."""
        found = str(self.settings.get("ablation", "none"))
        return "" if found == "none" else found

    @property
    def head(self) -> str:
        """The head, "classification" or "prompt"; "" for a classical baseline."""
        return str(self.documents[0].get("head") or "")

    @property
    def curve_rows(self) -> int | None:
        """The number of train rows, for a point of a learning curve (`make curve`); None for another result."""
        if self.baseline in _WITHOUT_TRAINING or self.settings.get("training.sampling", STRATIFIED) == STRATIFIED:
            return None
        return int(value(self.documents[0], "train_count") or self.settings["training.max_train_samples"])

    @property
    def on_gpu(self) -> bool:
        """Whether the first seed ran on a GPU."""
        return bool((self.documents[0].get("hardware") or {}).get("gpu"))

    @functools.cached_property
    def units(self) -> Units | None:
        """The test rows for resampling, None where it is not known which rows the seeds judge right."""
        return statistics.units_of(self.documents, self.outcomes)

    @property
    def mean_f1_of(self) -> tuple[int, ...]:
        """The places of the labels whose F1 scores test_f1_mean_labels averages."""
        document = self.documents[0]
        labels = [str(label) for label in document.get("test_labels", ())]
        return tuple(labels.index(str(label)) for label in document.get("test_f1_mean_labels_of", ()))

    def interval(self, key: str) -> Interval | None:
        """Return the mean over seeds of a test score with its 95 % interval, None where it cannot be computed.

        Args:
            key: such as "test_accuracy", or `label_counts.ERROR_RATE` and the place of a label.
        """
        return self._intervals.get(key.removeprefix("test_"))

    @functools.cached_property
    def _intervals(self) -> dict[str, Interval]:
        if self.units is None:
            return {}
        classes = self.units.counts.shape[-1]
        errors = [f"{label_counts.ERROR_RATE}{place}" for place in range(classes)]
        names = dict.fromkeys([self.score_key.removeprefix("test_"), *METRIC_NAMES, *errors])
        return statistics.intervals(self.units, list(names), self.mean_f1_of, self.cache)

    def training_time(self) -> float | None:
        """Return the seconds of training: wall-clock time on a GPU, CPU time without one; None when unmeasured.

        A CPU is often shared with other processes, which changes wall-clock time but hardly CPU time.
        """
        return self.mean("train_s" if self.on_gpu else "train_cpu_s")

    def peak_memory(self) -> float | None:
        """Return the peak memory in bytes, of the GPU where the run had one, else of the process."""
        return self.mean("gpu_memory_peak_bytes" if self.on_gpu else "cpu_memory_peak_bytes")

    def trainable_share(self) -> float | None:
        """Return the share of the parameters that was trained, in [0, 1]; None when unmeasured."""
        total, trainable = self.mean("params_total_count"), self.mean("params_trainable_count")
        return trainable / total if total and trainable is not None else None

    def validation_score(self) -> float | None:
        """Return the mean over seeds of the leading score on validation; None where a seed does not have it."""
        key = self.score_key.replace("test_", "validation_", 1)
        found = [on_validation(document, key) for document in self.documents]
        known = [score for score in found if score is not None]
        return sum(known) / len(known) if len(known) == len(found) else None

    def error_rates(self) -> dict[str, list[float]]:
        """Return the error rate of each class (1 - recall) for every seed that has test rows of it."""
        found: dict[str, list[float]] = {str(label): [] for label in self.documents[0]["test_labels"]}
        for document in self.documents:
            for index, (label, counts) in enumerate(zip(found, document["test_confusion"], strict=True)):
                if sum(counts):
                    found[label].append(1 - counts[index] / sum(counts))
        return found

    def with_train(self) -> "Result | None":
        """Return the result over the seeds whose train rows were scored, None where there is no such seed."""
        scored = [place for place, one in enumerate(self.documents) if one.get("train_accuracy") is not None]
        if not scored:
            return None

        def of(values: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(values[place] for place in scored) if values else ()

        return dataclasses.replace(
            self,
            documents=of(self.documents),
            outcomes=of(self.outcomes),
            folders=of(self.folders),
            fold_runs=of(self.fold_runs),
        )

    def has_other_rows(self, other: "Result") -> bool:
        """Return whether another result is known to be of other test rows."""
        own, others = ({one.rows_sha256 for one in result.outcomes if one is not None} for result in (self, other))
        counts = [value(result.documents[0], "test_n") for result in (self, other)]
        return counts[0] != counts[1] or bool(own and others and own != others)

    @property
    def score_key(self) -> str:
        """The leading score of the dataset, such as "test_accuracy"."""
        return str(self.documents[0]["score"])

    @property
    def score_name(self) -> str:
        """The name of the leading score in tables, such as "accuracy" or "mean F1 of against and favor"."""
        name = self.score_key.removeprefix("test_")
        if name == "f1_mean_labels":
            return f"mean F1 of {' and '.join(map(str, self.documents[0]['test_f1_mean_labels_of']))}"
        return METRIC_NAMES.get(name, name)
