"""Which run a command line means: its job, its dataset, its folder, and the command that starts it."""

import argparse
import dataclasses
import json
import re
import shlex
from pathlib import Path
from typing import Any

from common.cli.options import OUTPUTS
from common.config import catalog
from common.config.dataset import Dataset
from common.config.job import Job
from common.core import yaml_io
from common.core.errors import ConfigError, ModelError
from common.core.files import sha256, sha256_file
from common.runs import run_folder
from common.runs.run_config import RunConfig


@dataclasses.dataclass(frozen=True)
class Target:
    """The run that a command line means."""

    job_name: str
    job: Job
    variant: str
    dataset_name: str
    dataset: Dataset
    data_dir: Path | None

    def config(self, seed: int | None, data_sha256: str, baseline: str = "") -> RunConfig:
        """Return the configuration to freeze."""
        data_dir = str(self.data_dir.resolve()) if self.data_dir else None
        return RunConfig(
            self.job_name,
            self.dataset_name,
            self.variant,
            seed,
            self.job,
            self.dataset,
            data_sha256,
            data_dir,
            baseline,
        )

    def folder(self, outputs: Path, last: str) -> Path:
        """Return the run's folder."""
        return run_folder.folder(outputs, self.dataset_name, self.job_name, self.variant, last)


@dataclasses.dataclass(frozen=True)
class Classical:
    """A baseline that needs no model: it belongs to a dataset, not to a job."""

    dataset_name: str
    dataset: Dataset
    data_dir: Path | None
    name: str

    def config(self, data_sha256: str) -> RunConfig:
        """Return the configuration to freeze."""
        data_dir = str(self.data_dir.resolve()) if self.data_dir else None
        return RunConfig(
            "classical", self.dataset_name, "", None, None, self.dataset, data_sha256, data_dir, baseline=self.name
        )

    def folder(self, outputs: Path) -> Path:
        """Return the run's folder."""
        return run_folder.folder(outputs, self.dataset_name, "classical", "", f"baseline-{self.name}")


def resolve_target(arguments: argparse.Namespace) -> Target:
    """Resolve --model, --dataset, --set and --data-dir.

    Raises:
        ConfigError: one of them is wrong.
    """
    job, variant = catalog.load_job(arguments.model, yaml_io.split_overrides(arguments.set))
    dataset_name = arguments.dataset or job.dataset
    dataset = catalog.load_dataset(dataset_name)
    if job.training.best_metric == "validation_f1_mean_labels" and not dataset.mean_f1_labels:
        raise ConfigError(
            f"training.best_metric is validation_f1_mean_labels, but data/{dataset_name}.yaml has no mean_f1_labels."
        )
    return Target(arguments.model, job, variant, dataset_name, dataset, arguments.data_dir)


def make_command(verb: str, **values: Any) -> str:
    """Return the make command a message recommends: `make train MODEL=… SEED=2`."""
    given = {name.upper(): shlex.quote(str(value)) for name, value in values.items() if value not in (None, "", [])}
    return " ".join(["make", verb, *(f"{name}={value}" for name, value in given.items())])


def run_command(verb: str, arguments: argparse.Namespace) -> str:
    """Return the make command of the run that `arguments` mean."""
    return make_command(
        verb,
        model=arguments.model,
        dataset=arguments.dataset,
        set=" ".join(arguments.set),
        seed=arguments.seed if getattr(arguments, "seed", 1) != 1 else None,
        data_dir=arguments.data_dir,
        outputs=arguments.outputs if arguments.outputs != OUTPUTS else None,
    )


def trained_folder(target: Target, arguments: argparse.Namespace) -> Path:
    """Return the folder of the trained run that is meant.

    Raises:
        RunError: it has not been trained; the message says how.
    """
    folder = target.folder(arguments.outputs, f"seed-{arguments.seed}")
    run_folder.check_trained(folder, run_command("train", arguments))
    return folder


def adapter_hash(path: Path) -> str:
    """Return the SHA-256 of an adapter's weights, "" where there are none."""
    file = path / "adapter_model.safetensors"
    return sha256_file(file) if file.is_file() else ""


def adapter_folder(target: Target, arguments: argparse.Namespace, config: RunConfig) -> Path:
    """Return the run folder of an external adapter, named after its folder, its weights and what it is scored with."""
    if not arguments.adapter.is_dir():
        raise ModelError(f"ADAPTER={arguments.adapter}: there is no such folder.")
    name = re.sub(r"[^A-Za-z0-9._-]", "_", arguments.adapter.resolve().name)
    content = adapter_hash(arguments.adapter) + json.dumps(config.identity(), sort_keys=True)
    return target.folder(arguments.outputs, f"adapter-{name}-{sha256(content.encode())[:8]}")
