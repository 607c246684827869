"""Load the rows of a dataset from its files or from the Hub, divided into train, validation and test.

Nothing is dropped but what the dataset's YAML names, and nothing is guessed: an error names file, row, column, what was
found and what is allowed.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from common.config.catalog import ROOT
from common.config.dataset import IN_GROUP, SPLITS, Dataset, Source
from common.core.errors import ConfigError, DataError, choices
from common.data import notes
from common.data.folders import find_split_paths, is_saved_dataset, read_path
from common.data.folds import select_fold
from common.data.group_split import find_shared_groups
from common.data.labels import Frames, check_labels, discover_labels, find_other_names, find_unused_values
from common.data.rows import LoadedRows, to_rows
from common.data.shuffled import shuffle_first_texts
from common.data.splits import check_splits, check_train, divide_by_column, divide_by_fractions, require_split
from common.data.table_files import format_of
from common.data.table_reader import read_tables


def load_rows(dataset: Dataset, data_dir: Path | None = None) -> LoadedRows:
    """Read all splits of a dataset.

    Args:
        dataset: says what to read and which columns to use.
        data_dir: a folder with {train,validation,test}.<format>, read instead of the dataset's own source.

    Returns:
        {split: rows} for the splits that exist, in the order train, validation, test, in_group; and the dataset with
        its labels. With `splits.folds`, test is the fold `splits.fold`; without a fold the splits are the source's.

    Raises:
        DataError: a file or column is missing, a cell is empty or not allowed, an id occurs twice, or nothing can be
            learned from train.
    """
    with notes.collected() as file_notes:
        frames = _read_frames(dataset, data_dir)
    if not any(len(frame) for frame, _ in frames.values()):
        raise _no_rows(frames)
    if dataset.splits.test is not None:
        frames.pop("test", None)  # its labels are hidden
    if dataset.splits.column is not None and data_dir is None:
        frames = divide_by_column(frames, dataset.splits.column)
        if dataset.splits.test is not None:
            frames.pop("test", None)
    if takes_all := dataset.takes_all_labels:
        dataset = discover_labels(frames, dataset)
    check_labels(frames, dataset)
    rows = {split: to_rows(frame, dataset, origin, split) for split, (frame, origin) in frames.items()}
    dropped = {split: len(frame) - len(rows[split]) for split, (frame, _) in frames.items()}
    if not any(rows.values()):
        raise _no_rows(frames)
    divided, folds = [], None
    if dataset.splits.fold is not None:
        rows, folds, about_fold = select_fold(rows, dataset)
        divided.append(about_fold)
    if dataset.splits.folds is None or dataset.splits.fold is not None:
        divided += divide_by_fractions(rows, dataset, keep_given=data_dir is not None)
    if dataset.splits.test is not None:
        rows["test"] = require_split(rows, dataset.splits.test, "because splits.test says that test is a copy of it")
    check_train(rows, dataset)
    if dataset.splits.shuffled:
        rows = shuffle_first_texts(rows, dataset.splits.seed)
        divided.append(f"the texts '{dataset.text[0]}' are shuffled: each row has that of another row of its split")
    loaded = LoadedRows({split: rows[split] for split in (*SPLITS, IN_GROUP) if split in rows}, dataset)
    if dataset.drop_labels:
        loaded.dropped_rows_count = dropped
    loaded.notes = [f"labels: all, of the train rows: {choices(dataset.labels, 100)}"] if takes_all else []
    loaded.notes += [*_notes(dataset, frames, dropped), *divided]
    loaded.file_notes, loaded.folds = file_notes, folds
    if warning := find_shared_groups(loaded):
        loaded.notes.append(f"warning: {warning}")
    return loaded


def _no_rows(frames: Frames) -> DataError:
    origins = choices(origin for _, origin in frames.values())
    return DataError(f"{origins}: there are no rows below the header; the train split is empty.")


def _notes(dataset: Dataset, frames: Frames, dropped: dict[str, int]) -> list[str]:
    """Return sentences about what the dataset's YAML did with the rows."""
    found = []
    if dataset.drop_labels:
        counts = ", ".join(f"{count:,} of {split}" for split, count in dropped.items())
        found.append(f"rows left out by drop_labels: {counts}")
    found += [*find_unused_values(frames, dataset), *find_other_names(frames, dataset)]
    if dataset.splits.test is not None:
        found.append(
            "test is a copy of validation (splits.test): test scores are validation scores, which chose the model"
        )
    return found


def load_all_splits(dataset: Dataset, data_dir: Path | None) -> LoadedRows:
    """Load a dataset and check that it has every split that a fine-tuning run needs.

    Raises:
        DataError: as `load_rows`, or a split is missing.
    """
    rows = load_rows(dataset, data_dir)
    check_splits(rows, trains=True)
    return rows


# --- splits ----------------------------------------------------------------------------------------------------------


def _read_frames(dataset: Dataset, data_dir: Path | None) -> dict[str, tuple[pd.DataFrame, str]]:
    source = dataset.source
    if data_dir is not None:
        paths = find_split_paths(data_dir)
        _check_options(source, list(paths.values()))
        return {split: (read_path(path, source), str(path)) for split, path in paths.items()}
    if source.hub is not None:
        from common.data.hub_dataset import read_hub

        return read_hub(source)
    assert source.files is not None
    if isinstance(source.files, str):
        path = ROOT / source.files
        if not path.is_dir():
            _check_options(source, [path])
            return {split: (frame, source.files) for split, frame in read_tables(path, source).items()}
        paths = find_split_paths(path)
        names = {split: f"{source.files}{str(part).removeprefix(str(path))}" for split, part in paths.items()}
    else:
        names = {str(split): name for split, name in source.files.items()}
        paths = {split: ROOT / name for split, name in names.items()}
    _check_options(source, list(paths.values()))
    return {split: (read_path(path, source), names[split]) for split, path in paths.items()}


def _check_options(source: Source, paths: Sequence[Path]) -> None:
    """Raise a `ConfigError` for a key of `source` that no file would obey; what is named a workbook may be a text."""
    for key in source.options_in_use():
        if paths and not any(_obeys(path, key) for path in paths):
            raise ConfigError(
                f"source.{key} has no effect on {choices(path.name for path in paths)}: it applies to other formats. "
                "Leave it out."
            )


def _obeys(path: Path, key: str) -> bool:
    if key == "join_lists":
        return True
    if path.is_dir():
        return key == "encoding" and not is_saved_dataset(path)
    return format_of(path)[0] not in ({"parquet"} if key == "encoding" else {"parquet", "json", "jsonl"})
