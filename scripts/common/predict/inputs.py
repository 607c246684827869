"""What a prediction reads and where it writes: the run that predicts, the input files, the output file."""

import contextlib
import dataclasses
import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.cli import sweeps
from common.cli.target import resolve_target, trained_folder
from common.config.dataset import Dataset
from common.config.run_request import RunRequest
from common.core.errors import ConfigError, DataError, RunError
from common.data import table_files
from common.data.rows import Row
from common.runs import run_folder
from common.runs.exported import export_format, load_export_config
from common.runs.run_config import RunConfig

SEPARATOR = "||"


@contextlib.contextmanager
def reading_input() -> Iterator[None]:
    """Add to an error that advises keys of a dataset's YAML that they do not hold for the files of INPUT=."""
    try:
        yield
    except DataError as error:
        if "below `source:`" not in str(error):
            raise
        raise DataError(
            f"{str(error).removesuffix('.')}. But such keys hold for the dataset's own files, not for INPUT=: save it "
            "as csv with commas in UTF-8, as jsonl or as parquet."
        ) from error


def find_run(request: RunRequest, run: Path | None, adapter: Path | None) -> tuple[Path, RunConfig]:
    """Return the folder of the saved model that predicts, and its configuration.

    Args:
        request: the run of a job, or the job of an adapter.
        run: RUN=, a run folder or an exported folder, instead of the two others.
        adapter: ADAPTER=, a folder that peft's save_pretrained wrote.

    Raises:
        ConfigError: contradicting options.
        RunError: the run has not been trained, or on shuffled texts.
    """
    folder, config = _find_run(request, run, adapter)
    if config.dataset.splits.shuffled:
        raise RunError(
            f"{folder.parent}: the run was trained on shuffled texts (ablation: shuffled-first), to be compared with "
            "another one. Its model is of no use for texts that belong together: use a run without this setting."
        )
    return folder, config


def _find_run(request: RunRequest, run: Path | None, adapter: Path | None) -> tuple[Path, RunConfig]:
    if run is not None:
        if request.model or adapter:
            raise ConfigError("give either RUN=<folder> or MODEL=<job>")
        if export_format(run):
            return run, load_export_config(run)
        config = run_folder.load_run_config(run)
        run_folder.check_trained(run, f"make train MODEL={config.job_name}")
        return run / run_folder.MODEL, config
    if adapter is not None:
        return adapter, resolve_target(dataclasses.replace(request, seed=None)).config("")
    target = resolve_target(sweeps.single_variant(request))
    folder = trained_folder(target)
    return folder / run_folder.MODEL, run_folder.load_matching_config(folder, target.config(""))


def input_files(given: Path) -> list[Path]:
    """Return the files of INPUT=: one file, the files of a folder, or those that a pattern matches, sorted by path.

    Files of a folder whose names begin with "." or "_" are left out: programs that write such folders put markers
    there (`_SUCCESS`).

    Raises:
        DataError: there is no file, or the files are no tables of one format.
    """
    if given.is_dir():
        found = sorted(path for path in given.iterdir() if not path.name.startswith((".", "_")))
        if inner := next((path for path in found if path.is_dir()), None):
            raise DataError(f"{given}: it holds the folder {inner.name}; name the files: INPUT='{given}/**/*.<format>'")
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
            f"{given}: {one.name} and {other.name} differ in format; choose one with a pattern: INPUT='…/*.<format>'"
        )
    return found


def output_file(asked: Path | None, given: Path, files: Sequence[Path]) -> Path:
    """Return the file to write: OUTPUT=, or `<input>.predicted.<format>`.

    Args:
        asked: OUTPUT=, None where it is not given.
        given: INPUT=.
        files: what `input_files` returns for it.

    Raises:
        ConfigError: OUTPUT= is needed, or would be part of the input the next time.
        DataError: its ending is no known format.
    """
    if asked is not None:
        table_files.check_writable(asked)
        if given.is_dir() and asked.resolve().parent == given.resolve():
            raise ConfigError(f"OUTPUT={asked} lies in the folder INPUT={given}; choose another folder.")
        if asked.resolve() in {file.resolve() for file in files}:
            raise ConfigError(f"OUTPUT={asked} is one of the inputs.")
        return asked
    if list(files) != [given] and not given.is_dir():
        raise ConfigError(f"INPUT={given} is a pattern; name the file to write: OUTPUT=<file>")
    ending, stem = table_files.written_ending(files[0])
    stem = given.resolve().name if given.is_dir() else stem
    return (given.resolve() if given.is_dir() else given).with_name(f"{stem}.predicted{ending}")


def check_free_output(output: Path, replace: bool) -> None:
    """Raise a `RunError` when the output exists and must not be replaced."""
    if output.exists() and not replace:
        raise RunError(f"{output} exists already; give another OUTPUT=, or FORCE=1 to replace it.")


def one_row(text: str, dataset: Dataset) -> Row:
    """Return TEXT= as a row; a pair is written 'first || second'.

    Raises:
        DataError: the dataset needs another number of texts.
    """
    names = dataset.text
    texts = tuple(part.strip() for part in text.split(SEPARATOR)) if len(names) > 1 else (text.strip(),)
    if len(texts) != len(names) or not all(texts):
        wanted = f" {SEPARATOR} ".join(f"<{name}>" for name in names)
        raise DataError(f"TEXT holds {sum(map(bool, texts))} texts; the dataset needs: TEXT='{wanted}'")
    return Row(id="text", texts=texts, label=None)
