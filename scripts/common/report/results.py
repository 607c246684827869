"""Finished runs as results: found, published, grouped over seeds. Nothing here needs a model or a GPU."""

import dataclasses
from pathlib import Path
from typing import Any, cast

from common.config.catalog import ROOT
from common.config.variants import flatten, result_settings
from common.core import yaml_io
from common.core.errors import ReportError
from common.core.files import read_json, write_json, write_text
from common.runs import run_folder
from common.runs.documents import Metrics, value
from common.runs.run_config import SCHEMA, RunConfig, differences

PUBLISHED = ROOT / "outputs" / "published"
SPLIT_METRICS = ("metrics-train.json", "metrics-validation.json")  # published, too, where a run has them


@dataclasses.dataclass(frozen=True)
class Result:
    """One (dataset, job, variant) or baseline over its seeds.

    Attributes:
        dataset, job, variant, baseline: which one; baseline is "" for a fine-tuned model.
        documents: the metrics.json of every seed, by ascending seed, with the metrics of train where it was scored.
        settings: dotted key to value, all that the job sets and that changes results; empty for a classical baseline.
    """

    dataset: str
    job: str
    variant: str
    baseline: str
    documents: tuple[Metrics, ...]
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """How tables call it."""
        if self.baseline:
            words = {
                "majority": "majority class",
                "tfidf": "TF-IDF + logistic regression",
                "untuned": f"{self.job}, untuned",
                "zero-shot": f"{self.job}, zero-shot",
            }
            return words.get(self.baseline, f"{self.job}, {self.baseline}")
        return f"{self.job} ({self.variant})" if self.variant else self.job

    def values(self, key: str) -> list[float]:
        """Return a metric of every seed that has it."""
        return [found for document in self.documents if (found := value(document, key)) is not None]

    def mean(self, key: str) -> float | None:
        """Return the mean of a metric over the seeds, None when unmeasured."""
        values = self.values(key)
        return sum(values) / len(values) if values else None

    def label_errors(self) -> dict[str, list[float]]:
        """Return, by label, the share of its test rows that were taken for another, of every seed (1 - recall)."""
        found: dict[str, list[float]] = {str(label): [] for label in self.documents[0]["test_labels"]}
        for document in self.documents:
            for index, (label, counts) in enumerate(zip(found, document["test_confusion"], strict=True)):
                if sum(counts):
                    found[label].append(1 - counts[index] / sum(counts))
        return found

    def with_train(self) -> "Result | None":
        """Return the result over the seeds whose train rows were scored, None where there is none."""
        scored = tuple(document for document in self.documents if document.get("train_accuracy") is not None)
        return dataclasses.replace(self, documents=scored) if scored else None

    @property
    def score_key(self) -> str:
        """The metric that the dataset is led by, such as "test_accuracy"."""
        return str(self.documents[0]["score"])


def find(outputs: Path) -> list[Path]:
    """Return the folders of finished runs below an outputs folder, without set-aside and unpublishable ones."""
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
    """Copy config.yaml and the metrics of every finished run; return the published folders that are new or changed.

    Host names, absolute paths and the machine's own folders stay behind.
    """
    changed = []
    for folder in find(outputs):
        target = published / folder.relative_to(outputs)
        config = _anonymous(yaml_io.read(folder / run_folder.CONFIG))
        names = [run_folder.METRICS, *(name for name in SPLIT_METRICS if (folder / name).exists())]
        model = {"model": config["job"]["model"] if config["job"] else None}
        documents = {name: _read(folder / name) | model for name in names}
        before = {name: _read(target / name) for name in names if (target / name).exists()}
        if before == documents and (target / run_folder.CONFIG).exists():
            continue
        if before.get(run_folder.METRICS) != documents[run_folder.METRICS]:
            for name in SPLIT_METRICS:  # of another run than this one
                (target / name).unlink(missing_ok=True)
        write_text(target / run_folder.CONFIG, yaml_io.dump(config))
        for name, document in documents.items():
            write_json(target / name, document)
        changed.append(target)
    return changed


def _read(file: Path) -> Metrics:
    try:
        document = cast("Metrics", dict(read_json(file)))
    except (OSError, ValueError) as error:
        raise ReportError(f"{file}: cannot be read: {error}") from error
    if document.get("schema") != SCHEMA:
        raise ReportError(f"{file}: its schema is {document.get('schema')}; this version reads {SCHEMA}.")
    return document


def _with_train(run: Path) -> Metrics:
    """Return a run's metrics.json with what metrics-train.json, where there is one, adds to it."""
    document, train = _read(run / run_folder.METRICS), run / SPLIT_METRICS[0]
    return _read(train) | document if train.exists() else document


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
    """Return a name as it is, or the last part of a path of this machine."""
    return f"local:{Path(name).name}" if name.startswith(("/", "~", ".")) else name


def load(folder: Path) -> list[Result]:
    """Group the finished runs below a folder over their seeds, in the order of dataset, baselines, jobs.

    Raises:
        ReportError: seeds of one result were made from different data or with different recipes.
    """
    groups: dict[tuple[str, str, str, str], list[tuple[int, Metrics, RunConfig]]] = {}
    for run in find(folder):
        document = _with_train(run)
        baseline = str(document.get("baseline") or "")
        if baseline == "adapter":
            baseline = run.name
        key = (str(document["dataset"]), str(document["job"]), str(document["variant"]), baseline)
        groups.setdefault(key, []).append((document["seed"] or 0, document, run_folder.load_run_config(run)))
    results = []
    for key, members in groups.items():
        members.sort(key=lambda member: member[0])
        _check_alike(key, [config for _, _, config in members])
        if len({document["score"] for _, document, _ in members}) > 1:
            raise ReportError(f"{'/'.join(part for part in key if part)}: its seeds lead with different scores.")
        job = members[0][2].job
        settings = flatten(result_settings(job)) if job else {}
        results.append(Result(*key, tuple(document for _, document, _ in members), settings))
    order = {"majority": 0, "tfidf": 1, "untuned": 2, "zero-shot": 2}
    return sorted(results, key=lambda r: (r.dataset, order.get(r.baseline, 3), r.job, r.variant, r.baseline))


def _check_alike(key: tuple[str, str, str, str], configs: list[RunConfig]) -> None:
    first = dataclasses.replace(configs[0], seed=None)
    for config in configs[1:]:
        changes = differences(first, dataclasses.replace(config, seed=None))
        if changes:
            raise ReportError(
                f"{'/'.join(part for part in key if part)}: its seeds cannot be averaged, "
                "they differ in more than the seed:\n  " + "\n  ".join(changes)
            )
