"""Datasets of the Hugging Face Hub as tables: parts joined, constants added, class numbers turned into names."""

import sys

import pandas as pd

from common import hubfaults
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
            fetch = f'python -c "import datasets; datasets.load_dataset({_written(source.hub, part.config)}'
            fetch += f"revision='{source.revision}')\""
            reason = hubfaults.reason(_asked_again(error, source), source.hub, source.revision, fetch, dataset=True)
            raise DataError(
                f"the Hub dataset {name} (revision {source.revision}) cannot be loaded: {reason} "
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


def _asked_again(error: Exception, source: Source) -> Exception:
    """Return the Hub's own error for a data set, where it has one: the library drops its cause."""
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub import HfApi

    if not isinstance(error, DatasetNotFoundError):
        return error
    try:
        HfApi().resolve_revision(str(source.hub), repo_type="dataset", revision=source.revision)
        HfApi().auth_check(str(source.hub), repo_type="dataset")
    except Exception as clearer:  # whatever it is, it says more
        return clearer
    return error


def _written(*arguments: str | None) -> str:
    return "".join(f"'{argument}', " for argument in arguments if argument is not None)
