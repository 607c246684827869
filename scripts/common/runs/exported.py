"""Read what an exported folder says about its model: format, job, labels and texts; no config.yaml is there."""

from pathlib import Path
from typing import Any

from common.config.catalog import with_defaults
from common.config.dataset import Dataset
from common.config.job import Job
from common.core.documents import read_object
from common.core.errors import ModelError
from common.core.files import read_json, sha256_file
from common.core.schema import validate
from common.hub.locate import SAVED
from common.runs.run_config import RunConfig

SUMS = "SHA256SUMS"
PEFT, MERGED, ONNX = "peft", "merged", "onnx"
FORMATS = (PEFT, MERGED, ONNX)
# What the readers of an export need of its dataset; where its rows are is no part of an export.
DATASET_KEYS = ("title", "text", "label", "labels", "answers", "prompt", "mean_f1_labels", "score")
JOB_KEYS = (
    *("model", "revision", "head", "pooling", "decoding", "length_normalization", "calibration", "max_length"),
    *("truncation", "precision", "dtype", "quantization", "double_quantization", "attention"),
    *("model_config_overrides", "method"),
)


def export_format(folder: Path) -> str | None:
    """Return the format of an exported folder, None for any other folder."""
    file = folder / SAVED
    return read_object(file).get("format") if file.is_file() else None


def load_export_config(folder: Path) -> RunConfig:
    """Return the configuration with which an exported folder scores rows, after a check of its files.

    Raises:
        ModelError: a file is missing or has changed, or the folder's description cannot be read.
    """
    check_files(folder)
    about = read_json(folder / SAVED)
    try:
        job, run = about["job"], about["run"]
        dataset = {**about["dataset"], "schema": 1, "source": {"files": "(not part of an export)"}}
        return RunConfig(
            job_name=run["job"],
            dataset_name=run["dataset"],
            variant=run["variant"],
            seed=run["seed"],
            job=validate(Job, with_defaults({"schema": 1, "training": {}, **job}), str(folder / SAVED)),
            dataset=validate(Dataset, dataset, str(folder / SAVED)),
            data_sha256=about["data_sha256"],
        )
    except (KeyError, TypeError) as error:
        raise ModelError(f"{folder / SAVED}: not the description of an export: {error} is missing.") from error


def check_files(folder: Path) -> None:
    """Check that the files of an export are those that it was written with.

    Raises:
        ModelError: one is missing or has changed.
    """
    if not (folder / SUMS).is_file():
        raise ModelError(f"{folder}: {SUMS} is missing, so its files cannot be checked. Export the run again.")
    for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
        value, _, name = line.partition("  ")
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: {name} is missing. Export the run again, or copy the folder again.")
        if sha256_file(folder / name) != value:
            raise ModelError(
                f"{folder}: {name} has changed since the export: its SHA-256 is not the one in {SUMS}. Copy the folder "
                "again, or export the run again."
            )


def write_sums(folder: Path) -> None:
    """Write the SHA-256 of every file of a folder, by its name, into SHA256SUMS."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != SUMS)
    lines = [f"{sha256_file(file)}  {file.relative_to(folder).as_posix()}\n" for file in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def described(config: RunConfig, job: Job, model: str) -> dict[str, Any]:
    """Return the part of an export's description that `load_export_config` reads.

    Args:
        config: of the run.
        job: with the settings by which the export scores.
        model: a name of the base without a path.
    """
    dataset = config.dataset.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    labels = {"labels": list(config.dataset.labels)}
    settings = {key: value for key, value in job.model_dump(mode="json").items() if key in JOB_KEYS}
    return {
        "run": {
            "job": config.job_name,
            "dataset": config.dataset_name,
            "variant": config.variant,
            "seed": config.seed,
        },
        "data_sha256": config.data_sha256,
        "job": settings | {"model": model},
        "dataset": {key: value for key, value in (dataset | labels).items() if key in DATASET_KEYS},
    }
