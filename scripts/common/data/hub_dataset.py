"""Read datasets of the Hugging Face Hub as tables, and find out whether they are in this machine's cache."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import constants

from common.config.dataset import SPLIT_NAMES, SPLITS, Source
from common.core import hub_errors
from common.core.errors import DataError, choices
from common.data.notes import say_once


def read_hub(source: Source) -> dict[str, tuple[pd.DataFrame, str]]:
    """Load every part of a Hub dataset and join the parts of each split.

    Class numbers become class names, constant columns are added, and columns are renamed, as `source` says.

    Args:
        source: id, revision, parts and column names. The id may also be a local folder in the Hub's layout.

    Returns:
        {split: (table, name for messages)}; the table's index counts rows from 1 over all parts.

    Raises:
        DataError: the Hub cannot be reached and the cache lacks the dataset, or a configuration or split is missing.
    """
    import datasets

    datasets.disable_progress_bars()
    assert source.hub is not None
    parts: dict[str, list[pd.DataFrame]] = {}
    for part in source.parts:
        name = f"{source.hub}{'/' + part.config if part.config else ''}"
        try:
            loaded = datasets.load_dataset(source.hub, part.config, revision=source.revision)
        except Exception as error:  # the library raises a dozen unrelated types
            raise load_error(_ask_hub_for_error(error, source), source, part.config) from error
        for hub_split, rows in loaded.items():
            split = SPLIT_NAMES.get(str(hub_split))
            if split is None:  # such as "unsupervised"
                say_once(f"the split '{hub_split}' of {name} is not used")
                continue
            parts.setdefault(split, []).append(to_frame(rows, part.constants).rename(columns=source.rename))
    if not parts:
        raise DataError(f"the Hub dataset {source.hub} has none of the splits {choices(SPLITS)}.")
    joined = {split: pd.concat(frames, ignore_index=True) for split, frames in parts.items()}
    for frame in joined.values():
        frame.index = pd.RangeIndex(1, len(frame) + 1)
    return {split: (joined[split], f"{source.hub} {split}") for split in SPLITS if split in joined}


def to_frame(rows: Any, constants: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Return a `datasets.Dataset` as a table, with class names instead of numbers, and with constants as columns."""
    from datasets import ClassLabel

    frame: pd.DataFrame = rows.to_pandas().astype(object)
    for column, feature in rows.features.items():
        if isinstance(feature, ClassLabel):
            frame[column] = [feature.int2str(int(value)) if value >= 0 else None for value in frame[column]]
    for column, constant in (constants or {}).items():
        frame[column] = constant
    return frame


def find_missing(source: Source, commit: str | None = None) -> str | None:
    """Return which part of a Hub dataset an offline process would not find in the cache, None if it finds all.

    Reads no rows.

    Args:
        source: id and parts.
        commit: the commit that must be cached; None: any commit, as the library accepts it without the Hub.

    Source: `_find_hash_in_cache` of datasets/packaged_modules/cache/cache.py, which an offline process uses; it takes
    the commit that was prepared last.
    """
    assert source.hub is not None
    if Path(source.hub).is_dir():
        return None
    *namespace, name = source.hub.split("/")
    folder = cache_folder() / "___".join([*namespace, _snake_case(name)])
    for part in source.parts:
        if problem := _find_missing_part(folder, part.config, commit):
            return f"the Hub dataset {source.hub}{'/' + part.config if part.config else ''}: {problem}"
    return None


def cache_folder() -> Path:
    """Return the folder in which the datasets library stores prepared rows, without importing the library."""
    return Path(os.environ.get("HF_DATASETS_CACHE", Path(constants.HF_HOME) / "datasets")).expanduser()


def _find_missing_part(folder: Path, config: str | None, commit: str | None) -> str | None:
    found: dict[Path, dict[str, Any]] = {}
    for place in folder.glob(f"{config or '*'}/*/*"):
        if not place.is_dir():
            continue
        try:
            info = json.loads((place / "dataset_info.json").read_bytes())
            if info["config_name"] == place.parts[-3]:
                found[place] = info
        except (OSError, ValueError, KeyError, TypeError):
            return f"{place} is incomplete; delete it."
    if not found:
        return "it is not in this machine's cache."
    newest = sorted(found, key=lambda place: place.stat().st_mtime)[-1]
    if commit not in (None, newest.name):
        return f"in this machine's cache is commit {newest.name}."
    same = sorted(place.parts[-3] for place in found if place.parts[-2:] == newest.parts[-2:])
    if config is None and len(same) > 1:
        return f"it has several configurations ({choices(same)}); name one in the dataset's `parts`."
    # File names as in `filenames_for_dataset_split` of datasets/naming.py.
    for name, split in (found[newest].get("splits") or {}).items():
        shards = len(split.get("shard_lengths") or [])
        ends = [f"-{number:05d}-of-{shards:05d}" for number in range(shards)] if shards > 1 else [""]
        for end in ends:
            file = newest / f"{_snake_case(found[newest]['dataset_name'])}-{name}{end}.arrow"
            if not file.is_file():
                return f"{file} is missing."
    return None


def _snake_case(name: str) -> str:
    """Return a name as the datasets library writes it in its cache: "dav_lan" for "DavLan", "im_db" for "IMDb"."""
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return re.sub(r"([a-z\d])([A-Z])", r"\1_\2", name).lower()


def load_error(error: Exception, source: Source, config: str | None = None) -> DataError:
    """Return the `DataError` for a Hub dataset that cannot be loaded; its message says why and what fixes it."""
    name = f"{source.hub}{'/' + config if config else ''}"
    fetch = f'python -c "import datasets; datasets.load_dataset({_as_arguments(source.hub, config)}'
    fetch += f"revision='{source.revision}')\""
    reason = hub_errors.explain(error, str(source.hub), source.revision, fetch, dataset=True)
    return DataError(
        f"the Hub dataset {name} (revision {source.revision}) cannot be loaded: {reason} "
        "On a machine without internet, give the rows as files: "
        "DATA_DIR=<folder with {train,validation,test}.<format>>."
    )


def _ask_hub_for_error(error: Exception, source: Source) -> Exception:
    """Return the Hub's error for a dataset that the library did not find: the library drops the cause."""
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub import HfApi

    if not isinstance(error, DatasetNotFoundError):
        return error
    try:
        HfApi().resolve_revision(str(source.hub), repo_type="dataset", revision=source.revision)
        HfApi().auth_check(str(source.hub), repo_type="dataset")
    except Exception as cause:  # of any type: each says more than `DatasetNotFoundError`
        return cause
    return error


def _as_arguments(*arguments: str | None) -> str:
    return "".join(f"'{argument}', " for argument in arguments if argument is not None)
