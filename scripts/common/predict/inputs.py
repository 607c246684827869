"""What prediction adds to a table, for whole files and for shards alike: who predicts, and the columns it writes."""

import dataclasses
import glob
from collections.abc import Sequence
from pathlib import Path

from common.cli import sweeps
from common.cli.target import resolve_target, trained_folder
from common.config.dataset import Dataset
from common.config.run_request import RunRequest
from common.core.errors import ConfigError, DataError
from common.data import table_files
from common.data.rows import Row
from common.runs import run_folder
from common.runs.run_config import RunConfig

SEPARATOR = "||"


def find_run(request: RunRequest, run: Path | None, adapter: Path | None) -> tuple[Path, RunConfig]:
    """Return the folder of the run, or of the adapter, that predicts, and its configuration.

    Args:
        request: the run of a job, or the job of an adapter.
        run: RUN=, a run folder, instead of the two others.
        adapter: ADAPTER=, a folder that peft's save_pretrained wrote.

    Raises:
        ConfigError: contradicting options.
        RunError: the run has not been trained.
    """
    if run is not None:
        if request.model or adapter:
            raise ConfigError("give either RUN=<folder> or MODEL=<job>")
        config = run_folder.load_run_config(run)
        run_folder.check_trained(run, f"make train MODEL={config.job_name}")
        return run, config
    if adapter is not None:
        return adapter, resolve_target(dataclasses.replace(request, seed=None)).config("")
    target = resolve_target(sweeps.single_variant(request))
    folder = trained_folder(target)
    return folder, run_folder.load_matching_config(folder, target.config(""))


def input_files(given: Path) -> list[Path]:
    """Return the files of one table: a file, those of a folder, or those that a pattern means, sorted by their paths.

    Names that begin with "." or "_" hold no rows by the habit of those who write such folders (`_SUCCESS`).

    Raises:
        DataError: none is there, or they are no tables of one format.
    """
    if given.is_dir():
        found = sorted(path for path in given.iterdir() if not path.name.startswith((".", "_")))
        if inner := next((path for path in found if path.is_dir()), None):
            raise DataError(f"{given}: holds the folder {inner.name}; say which files: INPUT='{given}/**/*.<format>'")
    elif not given.exists() and glob.has_magic(str(given)):
        found = sorted(path for path in map(Path, glob.glob(str(given), recursive=True)) if path.is_file())  # noqa: PTH207
    else:
        table_files.format_of(given)
        found = [given]
    if not found:
        raise DataError(f"{given}: there is no file.")
    formats = {table_files.format_of(path)[0]: path for path in found}
    if len(formats) > 1:
        one, other, *_ = formats.values()
        raise DataError(
            f"{given}: {one.name} and {other.name} are of two formats; a pattern is needed: INPUT='…/*.<format>'"
        )
    return found


def output_file(asked: Path | None, given: Path, files: Sequence[Path]) -> Path:
    """Return where the labelled table of an input goes: OUTPUT, or `<input>.predicted.<format>`.

    Args:
        asked: OUTPUT.
        given: INPUT.
        files: what it means.

    Raises:
        ConfigError: OUTPUT is needed, or would be part of the input the next time.
        DataError: its ending is no known format.
    """
    if asked is not None:
        table_files.format_of(asked)
        if given.is_dir() and asked.resolve().parent == given.resolve():
            raise ConfigError(f"OUTPUT={asked} lies in INPUT={given}; put it elsewhere.")
        return asked
    if list(files) != [given] and not given.is_dir():
        raise ConfigError(f"INPUT={given} is a pattern; say where the labelled table goes: OUTPUT=<file>")
    name, gzipped = table_files.format_of(files[0])
    ending = f".{name}.gz" if gzipped else f".{name}"
    stem = given.resolve().name if given.is_dir() else given.name[: -len(ending)]
    return (given.resolve() if given.is_dir() else given).with_name(f"{stem}.predicted{ending}")


def one_row(text: str, dataset: Dataset) -> Row:
    """Return TEXT as a row; a pair is written 'first || second'."""
    names = dataset.text
    texts = tuple(part.strip() for part in text.split(SEPARATOR)) if len(names) > 1 else (text.strip(),)
    if len(texts) != len(names) or not all(texts):
        wanted = f" {SEPARATOR} ".join(f"<{name}>" for name in names)
        raise DataError(f"TEXT holds {sum(map(bool, texts))} texts; the dataset needs: TEXT='{wanted}'")
    return Row(id="text", texts=texts, label=None)
