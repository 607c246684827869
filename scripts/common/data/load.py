"""Load the rows of a dataset from its files or from the Hub, divided into train, validation and test.

Nothing is dropped or guessed: an error names file, row, column, what was found and what is allowed.
"""

from pathlib import Path

import pandas as pd

from common.config.catalog import ROOT
from common.config.dataset import SPLITS, Dataset
from common.core.errors import DataError, choices
from common.data.rows import Rows, to_rows
from common.data.splits import check_splits, check_train, divide_by_column, divide_by_fractions
from common.data.table_files import find_split_files
from common.data.table_reader import read_table


def load_rows(dataset: Dataset, data_dir: Path | None = None) -> Rows:
    """Read all splits of a dataset.

    Args:
        dataset: says what to read and which columns to use.
        data_dir: a folder with {train,validation,test}.<format>, read instead of the dataset's own source.

    Returns:
        {split: rows} for the splits that exist, in the order train, validation, test.

    Raises:
        DataError: a file or column is missing, a cell is empty or not allowed, an id occurs twice, or nothing can be
            learned from train.
    """
    frames = _read_frames(dataset, data_dir)
    if dataset.splits.column is not None and data_dir is None:
        frames = divide_by_column(frames, dataset.splits.column)
    rows = {split: to_rows(frame, dataset, origin, split) for split, (frame, origin) in frames.items()}
    if not any(rows.values()):
        origins = choices(origin for _, origin in frames.values())
        raise DataError(f"{origins}: there are no rows below the header; the train split is empty.")
    rows = divide_by_fractions(rows, dataset, keep_given=data_dir is not None)
    check_train(rows, dataset)
    return {split: rows[split] for split in SPLITS if split in rows}


def load_all_splits(dataset: Dataset, data_dir: Path | None) -> Rows:
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
        paths = find_split_files(data_dir)
        return {split: (read_table(path, source), str(path)) for split, path in paths.items()}
    if source.hub is not None:
        from common.data.hub_dataset import read_hub

        return read_hub(source)
    assert source.files is not None
    files = {"train": source.files} if isinstance(source.files, str) else source.files
    frames = {}
    for split, name in files.items():
        path = Path(name) if Path(name).is_absolute() else ROOT / name
        frames[split] = (read_table(path, source), name)
    return frames
