"""What the scripts' command lines have in common: which run is meant, and where runs lie."""

import argparse
import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from common.config import catalog
from common.config.job import Dataset, Job
from common.core import yaml_io
from common.core.errors import ConfigError, Interrupted, ModelError
from common.core.files import sha256, sha256_file
from common.runs import run_folder

OUTPUTS = catalog.ROOT / "outputs"


def parser(docstring: str, *groups: str) -> argparse.ArgumentParser:
    """Return a parser with the shared options.

    Args:
        docstring: of the script; its text is the help.
        groups: which options: "model", "dataset", "set", "seed", "data", "force".
    """
    result = argparse.ArgumentParser(
        description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    result.error = _refuse  # type: ignore[method-assign]
    add = result.add_argument
    if "model" in groups:
        add("--model", metavar="NAME", help="a job: jobs/<NAME>.yaml")
    if "dataset" in groups:
        add("--dataset", metavar="NAME", help="data/<NAME>.yaml instead of the job's own dataset")
    if "set" in groups:
        add(
            "--set",
            metavar="KEY=VALUE",
            nargs="+",
            action="extend",
            default=[],
            help="overrides, e.g. --set training.epochs=1 method.r=8",
        )
    if "seed" in groups:
        add("--seed", metavar="N", type=_seed, default=1, help="of initialisation and order (default 1)")
    if "data" in groups:
        add("--data-dir", metavar="DIR", type=path, help="read {train,validation,test}.<format> of this folder instead")
    if "force" in groups:
        add("--force", action="store_true", help="start over; what is there is kept beside it or, for files, replaced")
    add("--outputs", metavar="DIR", type=path, default=OUTPUTS, help="where run folders lie (default outputs/)")
    return result


def add_run(result: argparse.ArgumentParser) -> None:
    """Add --run: a run that exists, carried on by what is frozen in its folder."""
    result.add_argument(
        "--run", metavar="DIR", type=path, help="carry on the run of this folder, by its config.yaml alone; goes alone"
    )


def refuse_beside_run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Raise a `ConfigError` when --run is given with an option that says which run is meant, or how to make it."""
    others = [name for name in vars(arguments) if name != "run" and vars(arguments)[name] != parser.get_default(name)]
    if others:
        raise ConfigError(
            f"RUN={arguments.run} goes without {', '.join(map(str.upper, others))}: a run that exists is carried on as "
            f"its {run_folder.CONFIG} says. For another run leave RUN out."
        )


def path(text: str) -> Path:
    """Read a path argument; a shell leaves `~` alone inside NAME=~/folder."""
    return Path(text).expanduser()


def _refuse(message: str) -> Any:
    raise ConfigError(f"{message} (--help shows the options)")


def positive(text: str) -> int:
    """Read a whole number from 1 on."""
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"'{text}' is given; allowed is a whole number from 1")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdigit() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"SEED is '{text}'; allowed is a whole number from 0 to 4294967295")
    return int(text)


@dataclasses.dataclass(frozen=True)
class Target:
    """The run that a command line means."""

    job_name: str
    job: Job
    variant: str
    dataset_name: str
    dataset: Dataset
    data_dir: Path | None

    def config(self, seed: int | None, data_sha256: str, baseline: str = "") -> run_folder.RunConfig:
        """Return the configuration to freeze."""
        data_dir = str(self.data_dir.resolve()) if self.data_dir else None
        return run_folder.RunConfig(
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

    def config(self, data_sha256: str) -> run_folder.RunConfig:
        """Return the configuration to freeze."""
        data_dir = str(self.data_dir.resolve()) if self.data_dir else None
        return run_folder.RunConfig(
            "classical", self.dataset_name, "", None, None, self.dataset, data_sha256, data_dir, baseline=self.name
        )

    def folder(self, outputs: Path) -> Path:
        """Return the run's folder."""
        return run_folder.folder(outputs, self.dataset_name, "classical", "", f"baseline-{self.name}")


def target(arguments: argparse.Namespace) -> Target:
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


def run(command: list[str]) -> int:
    """Run a script and return its exit code; a signal to us is passed on, and the script is waited for.

    Args:
        command: the script and its arguments.
    """
    process = subprocess.Popen([sys.executable, *command])
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.terminate()  # training saves a checkpoint first
        process.wait()
        return Interrupted.exit_code
    return code if code >= 0 else 128 - code  # what a shell reports of a process that a signal ended


def trained_folder(target: Target, arguments: argparse.Namespace) -> Path:
    """Return the folder of the trained run that is meant.

    Raises:
        RunError: it has not been trained; the message says how.
    """
    folder = target.folder(arguments.outputs, f"seed-{arguments.seed}")
    run_folder.need_model(folder, run_command("train", arguments))
    return folder


def adapter_hash(path: Path) -> str:
    """Return the SHA-256 of an adapter's weights, "" where there are none."""
    file = path / "adapter_model.safetensors"
    return sha256_file(file) if file.is_file() else ""


def adapter_folder(target: Target, arguments: argparse.Namespace, config: run_folder.RunConfig) -> Path:
    """Return the run folder of an external adapter, named after its folder, its weights and what it is scored with."""
    if not arguments.adapter.is_dir():
        raise ModelError(f"ADAPTER={arguments.adapter}: there is no such folder.")
    name = re.sub(r"[^A-Za-z0-9._-]", "_", arguments.adapter.resolve().name)
    content = adapter_hash(arguments.adapter) + json.dumps(config.identity(), sort_keys=True)
    return target.folder(arguments.outputs, f"adapter-{name}-{sha256(content.encode())[:8]}")


def shown(path: Path) -> str:
    """Return a path as a person would type it from here."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else str(path)
