"""The run that a request means: its job, dataset and folder, read from the YAML files."""

import dataclasses
import json
import re
from pathlib import Path
from typing import cast, get_args

from common.config import catalog
from common.config.ablation import ablate
from common.config.dataset import Dataset
from common.config.job import STRATIFIED, Job, Sampling
from common.config.run_request import BASELINES, CLASSICAL_BASELINES, FEW_SHOT, MODEL_BASELINES, RunRequest
from common.core.errors import ConfigError, ModelError, choices
from common.core.files import sha256, sha256_file
from common.runs import run_folder
from common.runs.run_config import RunConfig

SAMPLE, SAMPLING, _FOLD = "training.max_train_samples", "training.sampling", "fold"  # a classical baseline takes these


@dataclasses.dataclass(frozen=True)
class Target:
    """A run of a job: a trained one, or the baseline that the job's model is before training."""

    request: RunRequest
    job_name: str
    job: Job
    variant: str
    dataset_name: str
    dataset: Dataset

    def config(self, data_sha256: str) -> RunConfig:
        """Return the configuration that the run's config.yaml records."""
        return RunConfig(
            self.job_name,
            self.dataset_name,
            self.variant,
            self.request.seed,
            self.job,
            self.dataset,
            data_sha256,
            _recorded(self.request.data_dir),
            self.request.baseline,
            shots=self.request.shots,
        )

    @property
    def folder(self) -> Path:
        """The run's folder."""
        request = self.request
        if request.baseline == FEW_SHOT:  # the seed draws the examples
            return self.folder_named(f"baseline-{FEW_SHOT}-{request.shots}-seed-{request.seed}")
        return self.folder_named(f"baseline-{request.baseline}" if request.baseline else f"seed-{request.seed}")

    def folder_named(self, last: str) -> Path:
        """Return the folder of this job, variant and dataset whose name is `last`."""
        return run_folder.folder(self.request.outputs, self.dataset_name, self.job_name, self.variant, last)


@dataclasses.dataclass(frozen=True)
class ClassicalTarget:
    """A baseline that needs no model: it belongs to a dataset, not to a job."""

    request: RunRequest
    dataset_name: str
    dataset: Dataset
    max_train_samples: int | None = None
    sampling: Sampling = STRATIFIED

    @property
    def variant(self) -> str:
        """The name of the variant: the setting, or ""."""
        sampling = None if self.sampling == STRATIFIED else self.sampling
        settings = {_FOLD: self.dataset.splits.fold, SAMPLE: self.max_train_samples, SAMPLING: sampling}
        return ",".join(f"{key}={value}" for key, value in settings.items() if value is not None)

    def config(self, data_sha256: str) -> RunConfig:
        """Return the configuration that the run's config.yaml records."""
        return RunConfig(
            "classical",
            self.dataset_name,
            self.variant,
            None,
            None,
            self.dataset,
            data_sha256,
            _recorded(self.request.data_dir),
            self.request.baseline,
            self.max_train_samples,
            sampling=self.sampling,
        )

    @property
    def folder(self) -> Path:
        """The run's folder."""
        last = f"baseline-{self.request.baseline}"
        return run_folder.folder(self.request.outputs, self.dataset_name, "classical", self.variant, last)


def _recorded(data_dir: Path | None) -> str | None:
    return str(data_dir.resolve()) if data_dir else None


def resolve_target(request: RunRequest) -> Target:
    """Return the run of a job that a request means.

    Raises:
        ConfigError: the job, the dataset or an override is wrong, or the baseline is that of another head.
    """
    job, variant = catalog.load_job(request.model, request.settings)
    dataset_name = request.dataset or job.dataset
    dataset = catalog.load_dataset(dataset_name).with_fold(job.fold)
    dataset = ablate(dataset, job.ablation)
    if job.training.best_metric == "validation_f1_mean_labels" and not dataset.mean_f1_labels:
        raise ConfigError(
            f"training.best_metric is validation_f1_mean_labels, but data/{dataset_name}.yaml has no mean_f1_labels."
        )
    own = MODEL_BASELINES[job.head]
    if request.baseline in BASELINES and request.baseline not in own:
        raise ConfigError(
            f"BASELINE={request.baseline}: {request.model} has head {job.head}, whose baselines are {choices(own)}."
        )
    request = dataclasses.replace(request, shots=_shots(request, dataset))
    return Target(request, str(request.model), job, variant, dataset_name, dataset)


def _shots(request: RunRequest, dataset: Dataset) -> int | None:
    """Return the number of examples of the baseline few-shot, one for each label unless SHOTS= is given."""
    if request.baseline == FEW_SHOT:
        if dataset.takes_all_labels and request.shots is None:
            raise ConfigError(
                "SHOTS= is missing: with `labels: all` the number of labels is known only when the rows are read. Give "
                "SHOTS=, the number of examples, or write `labels` as a list."
            )
        return request.shots or len(dataset.labels)
    if request.shots is not None:
        raise ConfigError(f"SHOTS={request.shots} has no effect without BASELINE={FEW_SHOT}.")
    return None


def resolve_baseline(request: RunRequest) -> Target | ClassicalTarget:
    """Return the baseline that a request means; where it names none, that of the job's head.

    Raises:
        ConfigError: the job, the dataset or an override is wrong, or the baseline is that of another head.
    """
    if request.baseline in CLASSICAL_BASELINES:
        if not (request.dataset or request.model):
            raise ConfigError(f"DATASET=<dataset> is missing: on which rows is BASELINE={request.baseline} computed?")
        name = request.dataset or catalog.load_job(request.model)[0].dataset
        _shots(request, catalog.load_dataset(name))
        size, fold = (_positive(request, key, least) for key, least in ((SAMPLE, 2), (_FOLD, 1)))
        return ClassicalTarget(
            request, name, catalog.load_dataset(name).with_fold(fold), size, _sampling(request, size)
        )
    if not request.baseline:
        head = catalog.load_job(request.model, request.settings)[0].head
        request = dataclasses.replace(request, baseline=MODEL_BASELINES[head][0])
    return resolve_target(request)


def without_job_settings(request: RunRequest) -> RunRequest:
    """Return the request of a classical baseline beside a job's runs: it has their fold and sample of train rows."""
    settings = request.settings
    dataset = request.dataset or settings.get("dataset")
    words = (f"{key}={settings[key]}" for key in (_FOLD, SAMPLE, SAMPLING) if settings.get(key) is not None)
    return dataclasses.replace(request, dataset=dataset, overrides=tuple(words))


def _positive(request: RunRequest, key: str, least: int) -> int | None:
    """Return a whole number that SET= gives a classical baseline, None where it gives none."""
    settings = request.settings
    if other := next((name for name in settings if name not in (SAMPLE, SAMPLING, _FOLD)), None):
        raise ConfigError(
            f"SET: BASELINE={request.baseline} has no model and takes no '{other}'; allowed are {SAMPLE}, {SAMPLING} "
            f"and {_FOLD}."
        )
    found = settings.get(key)
    if found is not None and (isinstance(found, bool) or not isinstance(found, int) or found < least):
        raise ConfigError(f"SET: {key} is {found!r}; allowed is a whole number from {least}.")
    return found


def _sampling(request: RunRequest, size: int | None) -> Sampling:
    """Return how SET= draws the sample of a classical baseline."""
    found = request.settings.get(SAMPLING, STRATIFIED)
    if found not in get_args(Sampling):
        raise ConfigError(f"SET: {SAMPLING} is {found!r}; allowed: {choices(get_args(Sampling))}.")
    if found != STRATIFIED and size is None:
        raise ConfigError(f"SET: {SAMPLING}={found} says how {SAMPLE} rows are drawn; give both.")
    return cast("Sampling", found)


def trained_folder(target: Target) -> Path:
    """Return the folder of a trained run.

    Raises:
        RunError: it has not been trained; the message says how, and lists the trained runs of that job and dataset.
    """
    run_folder.check_trained(
        target.folder,
        target.request.command("train"),
        lambda: run_folder.trained_runs(target.request.outputs, target.dataset_name, target.job_name),
    )
    return target.folder


def adapter_hash(path: Path) -> str:
    """Return the SHA-256 of an adapter's weights, or of those of an exported folder; "" where there are none."""
    adapter = path / "adapter_model.safetensors"
    files = [adapter] if adapter.is_file() else sorted([*path.glob("*.safetensors"), *path.glob("*.onnx")])
    hashes = [sha256_file(file) for file in files]
    return hashes[0] if len(hashes) == 1 else sha256("".join(hashes).encode()) if hashes else ""


def adapter_folder(target: Target, adapter: Path, config: RunConfig) -> Path:
    """Return the run folder of an external adapter, named after its folder, its weights and what it is scored with.

    Raises:
        ModelError: there is no such adapter.
    """
    if not adapter.is_dir():
        raise ModelError(f"ADAPTER={adapter}: there is no such folder.")
    name = re.sub(r"[^A-Za-z0-9._-]", "_", adapter.resolve().name)
    content = adapter_hash(adapter) + json.dumps(config.identity(), sort_keys=True)
    return target.folder_named(f"adapter-{name}-{sha256(content.encode())[:8]}")
