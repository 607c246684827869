"""From files or the Hub to rows: read, check, split. Nothing is dropped, nothing is guessed.

`load(dataset)` gives {"train": [Row, …], "validation": …, "test": …}; a fault stops with file, row, column, what was
found and what is allowed.
"""

from pathlib import Path

import pandas as pd

from common.config.catalog import ROOT
from common.config.dataset import SPLITS, Dataset
from common.config.job import Job
from common.core.errors import DataError, choices, nearest
from common.data.rows import Row, Rows, to_rows
from common.data.table_files import find_split_files, read_table


def load_rows(dataset: Dataset, data_dir: Path | None = None) -> Rows:
    """Read all splits of a dataset.

    Args:
        dataset: what to read and which columns count.
        data_dir: a folder with {train,validation,test}.<format> to read instead of the dataset's own source.

    Returns:
        The splits that exist, in the order train, validation, test.

    Raises:
        DataError: a file or column is missing, a cell is empty or unknown, ids repeat, train cannot be learned from.
    """
    frames = _read_frames(dataset, data_dir)
    if dataset.splits.column is not None and data_dir is None:
        frames = _by_column(frames, dataset.splits.column)
    rows = {split: to_rows(frame, dataset, origin, split) for split, (frame, origin) in frames.items()}
    rows = _by_fractions(rows, dataset, keep_given=data_dir is not None)
    _check_train(rows, dataset)
    return {split: rows[split] for split in SPLITS if split in rows}


def split_rows(rows: Rows, split: str, why: str) -> list[Row]:
    """Return a split's rows, or say how to get one."""
    if not rows.get(split):
        raise DataError(
            f"the dataset has no {split} rows, which are needed {why}. Name a {split} file in the dataset YAML, or cut "
            f"a share off train: splits: {{fractions: {{{split}: 0.1}}}}. Splits found: {choices(rows)}."
        )
    return rows[split]


def load_all_splits(dataset: Dataset, data_dir: Path | None) -> Rows:
    """Load a dataset that has every split which a run needs; see `load` and `need_split`."""
    rows = load_rows(dataset, data_dir)
    check_splits(rows, trains=True)
    return rows


def check_splits(rows: Rows, trains: bool) -> None:
    """Raise a `DataError` where a split is missing that a run needs; a baseline can do without validation."""
    split_rows(rows, "train", "to train on" if trains else "to learn the baseline from")
    if trains:
        split_rows(rows, "validation", "to choose the best checkpoint")
    split_rows(rows, "test", "to evaluate on")


def sample_rows(rows: list[Row], count: int | None, seed: int) -> list[Row]:
    """Return a stratified sample of `count` rows in their order, or all of them.

    Raises:
        DataError: fewer than one row a label would remain.
    """
    if count is None or count >= len(rows):
        return rows
    from sklearn.model_selection import train_test_split

    try:
        chosen, _ = train_test_split(
            range(len(rows)), train_size=count, random_state=seed, stratify=[row.label for row in rows]
        )
    except ValueError as error:
        raise DataError(f"cannot sample {count} of {len(rows)} rows, stratified by label: {error}") from error
    return [rows[index] for index in sorted(chosen)]


def trained_rows(rows: list[Row], job: Job, dataset: Dataset) -> list[Row]:
    """Return the train rows that a job learns from, the same for every seed."""
    return sample_rows(rows, job.training.max_train_samples, dataset.splits.seed)


# --- splits ----------------------------------------------------------------------------------------------------------


def _read_frames(dataset: Dataset, data_dir: Path | None) -> dict[str, tuple[pd.DataFrame, str]]:
    if data_dir is not None:
        paths = find_split_files(data_dir)
        return {split: (read_table(path), str(path)) for split, path in paths.items()}
    source = dataset.source
    if source.hub is not None:
        from common.data.hub_dataset import read_hub

        return read_hub(source)
    assert source.files is not None
    files = {"train": source.files} if isinstance(source.files, str) else source.files
    frames = {}
    for split, name in files.items():
        path = Path(name) if Path(name).is_absolute() else ROOT / name
        frames[split] = (read_table(path), name)
    return frames


def _by_column(frames: dict[str, tuple[pd.DataFrame, str]], column: str) -> dict[str, tuple[pd.DataFrame, str]]:
    divided: dict[str, list[tuple[pd.DataFrame, str]]] = {}
    for frame, origin in frames.values():
        if column not in frame.columns:
            raise DataError(
                f"{origin}: there is no column '{column}', which the dataset YAML names as `splits.column`."
                f"{nearest(column, frame.columns)} Columns found: {choices(frame.columns)}."
            )
        for place, value in frame[column].items():
            if value not in SPLITS:
                raise DataError(
                    f"{origin}, row {place}, column '{column}': found {value!r}; allowed: {choices(SPLITS)}."
                )
        for split, part in frame.groupby(column, sort=False):
            divided.setdefault(str(split), []).append((part, origin))
    return {
        split: (pd.concat([part for part, _ in parts]), ", ".join(dict.fromkeys(origin for _, origin in parts)))
        for split, parts in divided.items()
    }


def _by_fractions(rows: Rows, dataset: Dataset, keep_given: bool) -> Rows:
    """Cut validation and test off train, stratified by label, where they are asked for as fractions.

    A folder given as DATA_DIR may be divided already: with `keep_given` its splits stand.
    """
    from sklearn.model_selection import train_test_split

    whole = rows.get("train", [])
    for split, fraction in dataset.splits.fractions.items():
        if split in rows and keep_given:
            continue
        if split in rows:
            raise DataError(
                f"splits.fractions asks for {split}, but the source has a {split} split; remove one of them."
            )
        try:
            rows["train"], rows[split] = train_test_split(
                rows.get("train", []),
                test_size=round(fraction * len(whole)),
                random_state=dataset.splits.seed,
                stratify=[row.label for row in rows.get("train", [])],
            )
        except ValueError as error:
            raise DataError(
                f"cannot cut {fraction:.0%} of {len(whole)} rows off train, stratified by label: {error}"
            ) from error
    return rows


def _check_train(rows: Rows, dataset: Dataset) -> None:
    if "train" not in rows:
        return
    present = {row.label for row in rows["train"]}
    if not present:
        raise DataError("the train split is empty: nothing to learn from.")
    if len(present) == 1:
        only = dataset.labels[next(iter(label for label in present if label is not None))]
        raise DataError(f"every train row has the label '{only}': a classifier needs at least two labels.")
    missing = [str(label) for index, label in enumerate(dataset.labels) if index not in present]
    if missing:
        raise DataError(
            f"no train row has the label {choices(missing)}: it could never be learned. "
            "Remove it from `labels` or add rows."
        )
