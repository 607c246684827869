"""Find out which files of a job this machine lacks; sends no request and reads no rows."""

from pathlib import Path

from common.config.catalog import ROOT
from common.config.dataset import Dataset
from common.config.job import Job
from common.core.errors import DataError, ModelError, choices
from common.data import hub_dataset
from common.data.folders import find_split_paths
from common.hub import locate
from common.hub.locate import Base


def find_missing(job: Job, dataset: Dataset, data_dir: Path | None = None, command: str = "make fetch") -> str | None:
    """Return why a job could not start with HF_HUB_OFFLINE=1, None if it could. Sends no request and reads no rows.

    Args:
        job: names the model and its revision.
        dataset: names the source of the rows.
        data_dir: the folder given as DATA_DIR, which replaces the dataset's source.
        command: the command that downloads the files, such as "make fetch MODEL=llama-3-8b".
    """
    try:
        base = locate.locate(job.model, job.revision)
    except ModelError as error:
        return str(error)
    rows, rows_on_hub = find_missing_rows(dataset, data_dir), data_dir is None and dataset.source.hub is not None
    problems = [(find_missing_model(base), base.revision is not None), (rows, rows_on_hub)]
    found = "; ".join(problem.rstrip(".") for problem, _ in problems if problem)
    if any(problem and on_hub for problem, on_hub in problems):
        return f"{found}. Where there is internet: {command}."
    return f"{found}." if found else None


def find_missing_model(base: Base) -> str | None:
    """Return which files of a base model are not on this machine, None if all are."""
    if base.is_gguf:
        return None  # one file, which `locate` has found
    if base.revision is None:
        missing = locate.find_missing_files(Path(base.name))
        return f"model {base.name}: the folder lacks {choices(missing, 4)}." if missing else None
    folder = locate.snapshot(base.name, base.revision)
    if folder is None:
        return f"model {base.name} (revision {base.revision}): it is not in this machine's cache."
    missing = locate.find_missing_files(folder)
    if not missing:
        return None
    return f"model {base.name} (revision {base.revision}): this machine's cache lacks {choices(missing, 4)}."


def find_missing_rows(dataset: Dataset, data_dir: Path | None = None) -> str | None:
    """Return which files of a dataset's rows are not on this machine, None if all are."""
    if data_dir is not None:
        try:
            find_split_paths(data_dir)
        except DataError as error:
            return str(error)
        return None
    source = dataset.source
    if source.hub is not None:
        return hub_dataset.find_missing(source)
    files = [source.files] if isinstance(source.files, str) else list((source.files or {}).values())
    absent = [name for name in files if not (ROOT / name).exists()]
    return f"missing: {', '.join(absent)}; put them there, or give DATA_DIR=<folder>" if absent else None
