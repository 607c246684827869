"""Find finished runs, and load them as results grouped over seeds."""

import dataclasses
import functools
import json
import typing
from pathlib import Path
from typing import Any, cast

import numpy as np

from common.config.catalog import ROOT
from common.config.variants import flatten, result_settings
from common.core.documents import is_of
from common.core.errors import PeftableError, ReportError
from common.core.files import read_json, read_jsonl, sha256
from common.evaluation import label_counts, outcomes
from common.evaluation.intervals import Interval
from common.evaluation.outcomes import Outcomes
from common.evaluation.resampling import Units
from common.report import statistics
from common.report.statistics import Cache
from common.runs import run_folder
from common.runs.documents import Metrics, value
from common.runs.run_config import SCHEMA, RunConfig, differences

METRIC_NAMES = {
    "accuracy": "accuracy",
    "f1_macro": "macro-F1",
    "f1_weighted": "weighted F1",
    "matthews_corrcoef": "MCC",
}
PUBLISHED = ROOT / "outputs" / "published"
PREDICTIONS = "predictions-test.jsonl"
SPLIT_METRICS = ("metrics-train.json", "metrics-validation.json")  # optional; published with metrics.json


@dataclasses.dataclass(frozen=True)
class Result:
    """One (dataset, job, variant) or baseline over its seeds.

    Attributes:
        dataset, job, variant, baseline: their names; baseline is "" for a fine-tuned model.
        documents: the metrics.json of every seed, by ascending seed, with the metrics of validation and train where
            these splits were scored.
        settings: the job's settings that change results, by dotted key; empty for a classical baseline.
        outcomes: of the test rows, by seed as `documents`; None for a seed that was published without.
        cache: of the statistics.
    """

    dataset: str
    job: str
    variant: str
    baseline: str
    documents: tuple[Metrics, ...]
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    outcomes: tuple[Outcomes | None, ...] = ()
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
            return f"{name} ({self.variant})" if self.variant else name
        return f"{self.job} ({self.variant})" if self.variant else self.job

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
    def head(self) -> str:
        """The head, "classification" or "prompt"; "" for a classical baseline."""
        return str(self.documents[0].get("head") or "")

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
        found = [_on_validation(document, key) for document in self.documents]
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
        scored = tuple(document for document in self.documents if document.get("train_accuracy") is not None)
        return dataclasses.replace(self, documents=scored) if scored else None

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


def _on_validation(document: Metrics, key: str) -> float | None:
    """Return a validation score of one run: of the whole split if it was scored, else of the kept checkpoint."""
    best_step = value(document, "best_step")
    kept = [entry.get(key) for entry in document.get("history") or [] if entry.get("step") == best_step]
    return next((score for score in [value(document, key), *kept] if score is not None), None)


def find(outputs: Path) -> list[Path]:
    """Return the folders of finished runs below an outputs folder, without archived runs and the demo's."""
    found = []
    for file in sorted(outputs.rglob(run_folder.METRICS)):
        parts = file.relative_to(outputs).parts[:-1]
        if (
            parts
            and parts[0] not in run_folder.NO_RESULTS
            and not any(".replaced-" in part or part.startswith(".") for part in parts)
        ):
            found.append(file.parent)
    return found


def read_metrics(file: Path) -> Metrics:
    """Return the content of a metrics.json; a `ReportError` where it cannot be read."""
    try:
        document = cast("Metrics", dict(read_json(file)))
    except (OSError, ValueError, TypeError) as error:
        raise ReportError(f"{file}: cannot be read: {error}") from error
    if document.get("schema") != SCHEMA:
        raise ReportError(f"{file}: its schema is {document.get('schema')}; this version reads {SCHEMA}.")
    return document


def damage(run: Path, cache: Cache) -> str:
    """Return which file of a finished run cannot be read, and why; "" where all can."""
    try:
        metrics = _all_metrics(run)
        run_folder.run_config_of(read_config(run, cache), run / run_folder.CONFIG)
        hints = typing.get_type_hints(Metrics)
        missing = [key for key in Metrics.__required_keys__ if key not in metrics]
        wrong = [key for key, found in metrics.items() if key in hints and not is_of(found, hints[key])]
        if missing + wrong:
            return f"{run / run_folder.METRICS}: '{sorted(missing + wrong)[0]}' cannot be read"
        read_outcomes(run, metrics, cache)
    except PeftableError as error:
        return str(error)
    return ""


def _all_metrics(run: Path) -> Metrics:
    """Return a run's metrics.json, with the metrics of train and validation added where these files exist."""
    document = read_metrics(run / run_folder.METRICS)
    for name in SPLIT_METRICS:
        if (run / name).exists():
            document = read_metrics(run / name) | document  # fields without a split are those of metrics.json
    return document


def read_config(run: Path, cache: Cache) -> dict[str, Any]:
    """Return the content of a run's config.yaml; parsing YAML takes longer than all the rest of a report."""
    file = run / run_folder.CONFIG
    if not file.exists():
        return run_folder.read_config(run)  # raises
    return dict(cache.value(sha256(b"config " + file.read_bytes()), lambda _: run_folder.read_config(run)))


def read_outcomes(run: Path, document: Metrics, cache: Cache) -> Outcomes | None:
    """Return the outcomes of a run's test rows, None where the folder has neither them nor the predictions.

    Args:
        run: a run folder, or a published one.
        document: its metrics.json.
        cache: keeps the outcomes of predictions, which take time to read.

    Raises:
        ReportError: they cannot be read, or are not those of which the metrics were computed.
    """
    file = next((run / name for name in (outcomes.FILE, PREDICTIONS) if (run / name).exists()), None)
    if file is None or "test_labels" not in document:
        return None
    labels, confusion = document["test_labels"], np.array(document["test_confusion"])
    try:
        if file.name == PREDICTIONS:
            key = sha256(f"outcomes {outcomes.SCHEMA} {json.dumps(labels)} ".encode() + file.read_bytes())
            packed = cache.value(key, lambda _: outcomes.of_predictions(read_jsonl(file), labels).document())
        else:
            packed = read_json(file)
        found = outcomes.read(packed)
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ReportError(f"{file}: cannot be read: {error}") from error
    if len(found.gold) != document["test_n"] or not np.array_equal(found.confusion()[:, :-1], confusion):
        raise ReportError(
            f"{file}: it does not belong to the {run_folder.METRICS} beside it, whose confusion matrix is another one. "
            "Evaluate the run again (make evaluate), or restore the two files together."
        )
    return found


def load(folder: Path, cache: Cache | None = None) -> list[Result]:
    """Return the finished runs below a folder grouped over their seeds, sorted by dataset, baselines first, then job.

    A damaged run is left out.

    Args:
        folder: an outputs folder, or what is published.
        cache: keeps the statistics of earlier reports.

    Raises:
        ReportError: the seeds of one result have different data or settings.
    """
    cache = cache or Cache()
    groups: dict[tuple[str, str, str, str], list[tuple[int, Metrics, RunConfig, Outcomes | None]]] = {}
    for run in find(folder):
        if damage(run, cache):
            continue
        document = _all_metrics(run)
        baseline = str(document.get("baseline") or "")
        if baseline == "adapter":
            baseline = run.name
        if shots := document.get("shots"):
            baseline = f"{baseline} with {shots} examples"
        key = (str(document["dataset"]), str(document["job"]), str(document["variant"]), baseline)
        config = run_folder.run_config_of(read_config(run, cache), run / run_folder.CONFIG)
        rows = read_outcomes(run, document, cache)
        groups.setdefault(key, []).append((document["seed"] or 0, document, config, rows))
    results = []
    for key, members in groups.items():
        members.sort(key=lambda member: member[0])
        _check_alike(key, [config for _, _, config, _ in members])
        if len({document["score"] for _, document, *_ in members}) > 1:
            raise ReportError(f"{'/'.join(part for part in key if part)}: its seeds have different leading scores.")
        job = members[0][2].job
        settings = flatten(result_settings(job)) if job else {}
        _, documents, _, rows_of_seeds = zip(*members, strict=True)
        results.append(Result(*key, documents, settings, rows_of_seeds, cache))
    order = {"": 4, "majority": 0, "tfidf": 1, "untuned": 2, "zero-shot": 2}
    return sorted(results, key=lambda r: (r.dataset, order.get(r.baseline, 3), r.job, r.baseline, r.variant))


def _check_alike(key: tuple[str, str, str, str], configs: list[RunConfig]) -> None:
    first = dataclasses.replace(configs[0], seed=None)
    for config in configs[1:]:
        changes = differences(first, dataclasses.replace(config, seed=None))
        if changes:
            raise ReportError(
                f"{'/'.join(part for part in key if part)}: its seeds cannot be averaged, "
                "they differ in more than the seed:\n  " + "\n  ".join(changes)
            )
