"""Find finished runs, publish their metrics, and load them as results grouped over seeds."""

import dataclasses
import typing
from pathlib import Path
from typing import Any, cast

from common.config.catalog import ROOT
from common.config.variants import flatten, result_settings
from common.core import yaml_io
from common.core.documents import is_of
from common.core.errors import PeftableError, ReportError
from common.core.files import read_json, write_json, write_text
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
SPLIT_METRICS = ("metrics-train.json", "metrics-validation.json")  # optional; published with metrics.json


@dataclasses.dataclass(frozen=True)
class Result:
    """One (dataset, job, variant) or baseline over its seeds.

    Attributes:
        dataset, job, variant, baseline: their names; baseline is "" for a fine-tuned model.
        documents: the metrics.json of every seed, by ascending seed, with the metrics of validation and train where
            these splits were scored.
        settings: the job's settings that change results, by dotted key; empty for a classical baseline.
    """

    dataset: str
    job: str
    variant: str
    baseline: str
    documents: tuple[Metrics, ...]
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

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


def publish(outputs: Path, published: Path) -> list[Path]:
    """Copy config.yaml and the metrics of every finished run, and return the published folders that changed.

    Host names, absolute paths and folders of this machine are removed from the copies. A damaged run is left out.
    """
    changed = []
    for folder in find(outputs):
        if damage(folder):
            continue
        target = published / folder.relative_to(outputs)
        config = _anonymous(yaml_io.read(folder / run_folder.CONFIG))
        names = [run_folder.METRICS, *(name for name in SPLIT_METRICS if (folder / name).exists())]
        model = {"model": config["job"]["model"] if config["job"] else None}
        documents = {name: _read(folder / name) | model for name in names}
        before = {name: _read(target / name) for name in names if (target / name).exists()}
        if before == documents and (target / run_folder.CONFIG).exists():
            continue
        if before.get(run_folder.METRICS) != documents[run_folder.METRICS]:
            for name in SPLIT_METRICS:  # they belong to another run
                (target / name).unlink(missing_ok=True)
        write_text(target / run_folder.CONFIG, yaml_io.dump(config))
        for name, document in documents.items():
            write_json(target / name, document)
        changed.append(target)
    return changed


def _read(file: Path) -> Metrics:
    try:
        document = cast("Metrics", dict(read_json(file)))
    except (OSError, ValueError, TypeError) as error:
        raise ReportError(f"{file}: cannot be read: {error}") from error
    if document.get("schema") != SCHEMA:
        raise ReportError(f"{file}: its schema is {document.get('schema')}; this version reads {SCHEMA}.")
    return document


def damage(run: Path) -> str:
    """Return which file of a finished run cannot be read, and why; "" where all can."""
    try:
        metrics = _all_metrics(run)
        run_folder.load_run_config(run)
    except PeftableError as error:
        return str(error)
    hints = typing.get_type_hints(Metrics)
    missing = [key for key in Metrics.__required_keys__ if key not in metrics]
    wrong = [key for key, found in metrics.items() if key in hints and not is_of(found, hints[key])]
    return f"{run / run_folder.METRICS}: '{sorted(missing + wrong)[0]}' cannot be read" if missing + wrong else ""


def _all_metrics(run: Path) -> Metrics:
    """Return a run's metrics.json, with the metrics of train and validation added where these files exist."""
    document = _read(run / run_folder.METRICS)
    for name in SPLIT_METRICS:
        if (run / name).exists():
            document = _read(run / name) | document  # fields without a split are those of metrics.json
    return document


def _anonymous(config: dict[str, Any]) -> dict[str, Any]:
    source = config["dataset"]["source"]
    for key in ("files", "hub"):
        if isinstance(source.get(key), dict):
            source = source | {key: {split: _local(file) for split, file in source[key].items()}}
        elif key in source:
            source = source | {key: _local(source[key])}
    job = config["job"]
    return config | {
        "data": config["data"] | {"dir": None},
        "job": job | {"model": _local(job["model"])} if job else None,
        "dataset": config["dataset"] | {"source": source},
    }


def _local(name: str) -> str:
    """Return a public name unchanged, and `local:<last part>` for a path of this machine."""
    return f"local:{Path(name).name}" if name.startswith(("/", "~", ".")) else name


def load(folder: Path) -> list[Result]:
    """Return the finished runs below a folder grouped over their seeds, sorted by dataset, baselines first, then job.

    A damaged run is left out.

    Raises:
        ReportError: the seeds of one result have different data or settings.
    """
    groups: dict[tuple[str, str, str, str], list[tuple[int, Metrics, RunConfig]]] = {}
    for run in find(folder):
        if damage(run):
            continue
        document = _all_metrics(run)
        baseline = str(document.get("baseline") or "")
        if baseline == "adapter":
            baseline = run.name
        if shots := document.get("shots"):
            baseline = f"{baseline} with {shots} examples"
        key = (str(document["dataset"]), str(document["job"]), str(document["variant"]), baseline)
        groups.setdefault(key, []).append((document["seed"] or 0, document, run_folder.load_run_config(run)))
    results = []
    for key, members in groups.items():
        members.sort(key=lambda member: member[0])
        _check_alike(key, [config for _, _, config in members])
        if len({document["score"] for _, document, _ in members}) > 1:
            raise ReportError(f"{'/'.join(part for part in key if part)}: its seeds have different leading scores.")
        job = members[0][2].job
        settings = flatten(result_settings(job)) if job else {}
        results.append(Result(*key, tuple(document for _, document, _ in members), settings))
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
