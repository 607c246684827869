"""Load finished runs as results, grouped over seeds and folds."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common.config.catalog import ROOT
from common.config.job import STRATIFIED
from common.config.variants import flatten, result_settings
from common.core.errors import ReportError
from common.evaluation import label_counts
from common.evaluation.intervals import Interval
from common.evaluation.outcomes import Outcomes
from common.evaluation.resampling import Units
from common.report import finished_runs, folds, statistics
from common.report.finished_runs import FinishedRun, on_validation
from common.report.statistics import Cache
from common.runs.documents import Metrics, value
from common.runs.out_of_fold import variant_without_fold
from common.runs.run_config import RunConfig, differences

METRIC_NAMES = {
    "accuracy": "accuracy",
    "f1_macro": "macro-F1",
    "f1_weighted": "weighted F1",
    "matthews_corrcoef": "MCC",
}
_UNTAUGHT = ("majority", "untuned", "zero-shot")  # baselines that learn from no train rows
PUBLISHED = ROOT / "outputs" / "published"


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
        if self.baseline in _UNTAUGHT or self.settings.get("training.sampling", STRATIFIED) == STRATIFIED:
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


def load(folder: Path, cache: Cache | None = None) -> list[Result]:
    """Return the results of `load_all` that can be compared: without the points of learning curves."""
    return [result for result in load_all(folder, cache) if result.curve_rows is None]


def load_all(folder: Path, cache: Cache | None = None) -> list[Result]:
    """Return the finished runs below a folder grouped over their seeds, sorted by dataset, baselines first, then job.

    The folds of one job and seed are one run over all rows. A damaged run is left out, and so are folds whose other
    folds are not finished (`left_out`).

    Args:
        folder: an outputs folder, or what is published.
        cache: keeps the statistics of earlier reports.

    Raises:
        ReportError: the seeds of one result have different data or settings.
    """
    cache = cache or Cache()
    results = []
    for key, seeds in _groups(folder, cache).items():
        whole = {seed: runs for seed, runs in seeds.items() if not (key.has_folds and folds.missing(runs))}
        if not whole:
            continue
        _check_alike(key, [run.config for runs in whole.values() for run in runs])
        members = [folds.join(whole[seed]) if key.has_folds else whole[seed][0] for seed in sorted(whole)]
        if len({run.document["score"] for run in members}) > 1:
            raise ReportError(f"{key.text}: its seeds have different leading scores.")
        config = members[0].config
        settings = flatten(result_settings(config.job)) if config.job else config.sample_settings()
        number = folds.count(config) or 0 if key.has_folds else 0
        if settings and number:
            settings = {key: value for key, value in settings.items() if key != "fold"} | {"folds": number}
        documents, rows = tuple(run.document for run in members), tuple(run.outcomes for run in members)
        results.append(
            Result(
                *(key.dataset, key.job, key.variant, key.baseline, documents, settings, rows, number),
                tuple(run.folders for run in members),
                tuple(config.dataset.text),
                tuple(run.folds for run in members) if number else (),
                cache,
            )
        )
    order = {"": 4, "majority": 0, "tfidf": 1, "untuned": 2, "zero-shot": 2}
    return sorted(results, key=lambda r: (r.dataset, order.get(r.baseline, 3), r.job, r.baseline, r.variant, r.folds))


def left_out(folder: Path, cache: Cache) -> list[str]:
    """Return a line for each job and seed whose finished folds are in no table, because others are not finished."""
    lines = []
    for key, seeds in _groups(folder, cache).items():
        for seed, runs in sorted(seeds.items()):
            if key.has_folds and (reason := folds.missing(runs)):
                lines.append(f"{key.text}, seed {seed}: {reason}")
    return lines


class _Key(NamedTuple):
    """What the runs of one result have in common."""

    dataset: str
    job: str
    variant: str  # without the fold
    baseline: str
    has_folds: bool

    @property
    def text(self) -> str:
        return "/".join(filter(None, self[:4]))


def _groups(folder: Path, cache: Cache) -> dict[_Key, dict[int, list[FinishedRun]]]:
    """Return the finished runs below a folder by result and seed; of one seed there are several if they are folds."""
    found: dict[_Key, dict[int, list[FinishedRun]]] = {}
    for run in finished_runs.read_all(folder, cache):
        document = run.document
        baseline = str(document.get("baseline") or "")
        if baseline == "adapter":
            baseline = run.folders[0].name
        if shots := document.get("shots"):
            baseline = f"{baseline} with {shots} examples"
        has_folds = run.config.dataset.splits.fold is not None
        variant = variant_without_fold(run.config) if has_folds else str(document["variant"])
        key = _Key(str(document["dataset"]), str(document["job"]), variant, baseline, has_folds)
        found.setdefault(key, {}).setdefault(document["seed"] or 0, []).append(run)
    return found


def _check_alike(key: _Key, configs: Sequence[RunConfig]) -> None:
    """Raise a `ReportError` where two seeds, of the same fold, differ in more than the seed."""
    firsts: dict[int | None, RunConfig] = {}
    for config in configs:
        first = firsts.setdefault(config.dataset.splits.fold, dataclasses.replace(config, seed=None))
        changes = differences(first, dataclasses.replace(config, seed=None))
        if changes:
            raise ReportError(
                f"{key.text}: its seeds cannot be averaged, they differ in more than the seed:\n  "
                + "\n  ".join(changes)
            )
