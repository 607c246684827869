"""Everything a run was created with, which is the content of its `config.yaml`, and how two runs differ in it."""

import dataclasses
from typing import TYPE_CHECKING, Any

from common.config.dataset import Dataset, Folds
from common.config.job import STRATIFIED, Job, Sampling, Training
from common.config.run_request import EMBEDDING, FEW_SHOT
from common.config.variants import flatten, result_settings
from common.core.errors import RunError

if TYPE_CHECKING:
    from common.data.rows import LoadedRows  # imports pandas, which `make status` does without

SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything a run was created with.

    Attributes:
        job_name, dataset_name, variant, seed: which run it is.
        job, dataset: the resolved YAML; a classical baseline has no job.
        data_sha256: of all rows (`data.rows.rows_fingerprint`), "" for a run that reads none.
        data_dir: the folder given as DATA_DIR, None for the dataset's own source.
        baseline: "majority", "tfidf", "untuned", "zero-shot", "few-shot", "embedding", "adapter" (trained elsewhere),
            or "" for a run that is trained here.
        max_train_samples, sampling: of a classical baseline: it learns from a sample of so many train rows, drawn in
            this way. A job has its own.
        shots: of the baseline few-shot: the number of train rows that every prompt shows.
        dropped_rows_count: {split: rows that the dataset's `drop_labels` left out}; None without `drop_labels`.
        folds: how all rows are divided, for a run of one fold; None for another run.
    """

    job_name: str
    dataset_name: str
    variant: str
    seed: int | None
    job: Job | None
    dataset: Dataset
    data_sha256: str
    data_dir: str | None = None
    baseline: str = ""
    max_train_samples: int | None = None
    shots: int | None = None
    dropped_rows_count: dict[str, int] | None = None
    folds: Folds | None = None
    sampling: Sampling = STRATIFIED

    def with_rows(self, rows: "LoadedRows") -> "RunConfig":
        """Return the config with what reading the rows has shown: labels, dropped rows, folds."""
        dropped = rows.dropped_rows_count or None
        return dataclasses.replace(self, dataset=rows.dataset, dropped_rows_count=dropped, folds=rows.folds)

    def plain(self) -> dict[str, Any]:
        """Return the content of `config.yaml`."""
        sample = _sample(self.max_train_samples, self.sampling)
        dropped = {"dropped_rows_count": self.dropped_rows_count} if self.dropped_rows_count is not None else {}
        folds = {"folds": dataclasses.asdict(self.folds)} if self.folds is not None else {}
        labels = {"labels": self.dataset.labels}  # raises where they are not known yet
        return {
            "schema": SCHEMA,
            "run": {
                "job": self.job_name,
                "dataset": self.dataset_name,
                "variant": self.variant,
                "seed": self.seed,
                "baseline": self.baseline,
            }
            | ({"shots": self.shots} if self.shots is not None else {}),
            "data": {"sha256": self.data_sha256, "dir": self.data_dir} | sample | dropped | folds,
            "job": self.job.model_dump(mode="json", by_alias=True) if self.job else None,
            "dataset": self.dataset.model_dump(mode="json", by_alias=True, exclude_defaults=True)
            | {"schema": SCHEMA}
            | labels,
        }

    def sample_settings(self) -> dict[str, Any]:
        """Return how a classical baseline draws its train rows, by dotted key; empty where it learns from all."""
        sample = _sample(self.max_train_samples, self.sampling)
        return {f"training.{key}": value for key, value in sample.items()}

    def identity(self) -> dict[str, Any]:
        """Return the settings that change the results, as dotted leaves; a run may resume another that agrees in them.

        The method and the training arguments of a baseline change nothing, because nothing is trained; those that learn
        from train rows (few-shot, embedding) take the job's sample of them.
        """
        settings = result_settings(self.job) if self.job else {}
        if settings.get("ablation") == "none":  # as before there were ablations: folders have names made of this
            del settings["ablation"]
        if self.baseline:
            settings = {key: value for key, value in settings.items() if key not in ("method", "training")}
            if self.baseline in (FEW_SHOT, EMBEDDING) and self.job and self.job.training.max_train_samples is not None:
                settings |= {"training": _sample(self.job.training.max_train_samples, self.job.training.sampling)}
        if self.job is not None and self.job.head == "prompt":
            settings |= {"prompt": self.dataset.prompt and self.dataset.prompt.model_dump()}
            settings |= {"answers": self.dataset.answers}
        if self.job is not None and {"max_train_samples", "max_eval_samples"} & _given(self.job.training):
            settings |= {"splits": {"seed": self.dataset.splits.seed}}  # it chooses the sample
        if self.max_train_samples is not None:
            settings |= {"training": _sample(self.max_train_samples, self.sampling)}
            settings |= {"splits": {"seed": self.dataset.splits.seed}}
        return flatten(
            {
                **settings,
                "labels": list(self.dataset.labels),
                "mean_f1_labels": self.dataset.mean_f1_labels,
                "text": list(self.dataset.text),
                "data": {"sha256": self.data_sha256},
                "seed": self.seed,
                **({"shots": self.shots} if self.shots is not None else {}),
            }
        )


def _sample(rows: int | None, sampling: Sampling) -> dict[str, Any]:
    """Return the settings of a sample of train rows, without those that have their default."""
    return {
        **({"max_train_samples": rows} if rows is not None else {}),
        **({"sampling": sampling} if sampling != STRATIFIED else {}),
    }


def _given(training: Training) -> set[str]:
    return {name for name, value in training if value is not None}


def differences(recorded: RunConfig, current: RunConfig) -> list[str]:
    """Return a line "key: old → new" per difference that changes results.

    Where the current dataset says `labels: all`, and its rows were not read, the labels are the recorded ones.
    """
    if current.dataset.takes_all_labels:
        current = dataclasses.replace(current, dataset=current.dataset.with_labels(recorded.dataset.labels))
    old, new = recorded.identity(), current.identity()
    return [
        f"{key}: {old.get(key, 'absent')} → {new.get(key, 'absent')}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def job_of(config: RunConfig) -> Job:
    """Return the run's job; a `RunError` for a classical baseline, the only kind of run without one."""
    if config.job is None:
        raise RunError(f"{config.job_name}: a classical baseline has no model.")
    return config.job
