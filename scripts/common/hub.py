"""Datasets of the Hugging Face Hub as tables: parts joined, constants added, class numbers turned into names."""

import sys

import pandas as pd

from common.config import SPLITS, Source
from common.errors import DataError, choices

_SPLIT_NAMES = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}


def read_hub(source: Source) -> dict[str, tuple[pd.DataFrame, str]]:
    """Load every part of a Hub dataset and join them split by split.

    Args:
        source: id, revision, parts and column names. A local folder in the Hub's layout works as an id, too.

    Returns:
        {split: (table, name for messages)}; the table's index counts rows from 1 over all parts.

    Raises:
        DataError: not reachable, not cached, no such configuration or split.
    """
    import datasets
    from datasets import ClassLabel

    datasets.disable_progress_bars()
    assert source.hub is not None
    parts: dict[str, list[pd.DataFrame]] = {}
    for part in source.parts:
        name = f"{source.hub}{'/' + part.config if part.config else ''}"
        try:
            loaded = datasets.load_dataset(source.hub, part.config, revision=source.revision)
        except Exception as error:  # the library raises a dozen unrelated types for "not reachable" and "not there"
            raise DataError(
                f"the Hub dataset {name} (revision {source.revision}) cannot be loaded: {_first_line(error)} "
                "On a machine without internet, give the rows as files: "
                "DATA_DIR=<folder with {train,validation,test}.<format>>."
            ) from error
        for hub_split, rows in loaded.items():
            split = _SPLIT_NAMES.get(str(hub_split))
            if split is None:
                # "unsupervised" and the like
                print(f"note: the split '{hub_split}' of {name} is not used", file=sys.stderr)
                continue
            frame = rows.to_pandas().astype(object)
            for column, feature in rows.features.items():
                if isinstance(feature, ClassLabel):
                    frame[column] = [feature.int2str(int(value)) if value >= 0 else None for value in frame[column]]
            for column, constant in part.constants.items():
                frame[column] = constant
            parts.setdefault(split, []).append(frame.rename(columns=source.rename))
    if not parts:
        raise DataError(f"the Hub dataset {source.hub} has none of the splits {choices(SPLITS)}.")
    joined = {split: pd.concat(frames, ignore_index=True) for split, frames in parts.items()}
    for frame in joined.values():
        frame.index = pd.RangeIndex(1, len(frame) + 1)
    return {split: (joined[split], f"{source.hub} {split}") for split in SPLITS if split in joined}


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".") + "."
