"""Find and read the tables of a folder: a file or folder for each split, a saved dataset, or texts by class.

- `{train,validation,test}.<format>`, or folders of these names, each one of the following;
- what `save_to_disk` of the datasets library wrote, a dataset or a dictionary of datasets;
- a folder for each class, with one text in each .txt file; the columns are `text`, `label` and `file` ("pos/1.txt").
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from common.config.dataset import SPLIT_NAMES, SPLITS, ReadOptions
from common.core.errors import DataError, choices
from common.core.files import read_json
from common.data.notes import say_once
from common.data.table_files import COMPRESSIONS, FORMATS, READ_FORMATS, format_of
from common.data.table_reader import read_table
from common.data.text_encoding import without_mark

_DICT, _SAVED = "dataset_dict.json", "state.json"  # of a saved DatasetDict, of a saved Dataset
_PROBLEMS = 5  # files that a message names


def find_split_paths(folder: Path) -> dict[str, Path]:
    """Return {split: file or folder} of a folder; one that is a single table is {"train": the folder}.

    Raises:
        DataError: no such folder, nothing in it that can be read, or two files for one split.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder.")
    if (folder / _DICT).is_file():
        return _find_saved_splits(folder)
    if (folder / _SAVED).is_file():
        return {"train": folder}
    found: dict[str, Path] = {}
    for split in SPLITS:
        words = [word for word, meant in SPLIT_NAMES.items() if meant == split]
        endings = ("", *(f".{compression}" for compression in COMPRESSIONS))
        candidates = [folder / f"{word}.{name}{end}" for word in words for name in READ_FORMATS for end in endings]
        present = [path for path in candidates if path.is_file()]
        # Beside a table, a .txt file is a note.
        present = [path for path in present if format_of(path)[0] != "txt"] or present
        present += [folder / word for word in words if (folder / word).is_dir()]
        if len(present) > 1:
            raise DataError(f"{folder}: found both {present[0].name} and {present[1].name} for one split; keep one.")
        if present:
            found[split] = present[0]
    if not found and any(path.suffix.lower() == ".txt" for one in _folders(folder) for path in one.iterdir()):
        return {"train": folder}
    if not found:
        raise DataError(
            f"{folder}: no split found; allowed are {{train,validation,test}}.<format> (validation may also be called "
            f"valid, val or dev) with format {choices(FORMATS)}, a dataset saved to disk, or one folder of .txt files "
            "for each label."
        )
    return found


def read_path(path: Path, options: ReadOptions) -> pd.DataFrame:
    """Read the table of a file or folder.

    Raises:
        DataError: as of `read_table`, or the folder is neither a saved dataset nor texts by class.
    """
    if not path.is_dir():
        return read_table(path, options)
    if (path / _DICT).is_file():
        raise DataError(f"{path}: it holds several splits; name it as `files:` alone, or one of its folders.")
    return _read_saved(path) if is_saved_dataset(path) else _read_texts(path, options)


def is_saved_dataset(path: Path) -> bool:
    """Return whether a folder is what `save_to_disk` of the datasets library wrote."""
    return (path / _SAVED).is_file() or (path / _DICT).is_file()


def _find_saved_splits(folder: Path) -> dict[str, Path]:
    try:
        names = [str(name) for name in read_json(folder / _DICT)["splits"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / _DICT}: it does not name the splits of a saved dataset: {error}.") from error
    if unused := [name for name in names if name not in SPLIT_NAMES]:
        say_once(f"{folder}: its splits {choices(unused)} are not used")
    found: dict[str, Path] = {}
    for name in names:
        split = SPLIT_NAMES.get(name)
        if split in found:
            raise DataError(f"{folder}: its splits {found[split].name} and {name} have one meaning; keep one.")
        if split is not None:
            found[split] = folder / name
    if lost := next((path for path in found.values() if not path.is_dir()), None):
        raise DataError(f"{folder}: its {_DICT} names the split {lost.name}, which is not there.")
    if not found:
        raise DataError(f"{folder}: it has none of the splits {choices(SPLITS)}; found: {choices(names)}.")
    return {split: found[split] for split in SPLITS if split in found}


def _read_saved(folder: Path) -> pd.DataFrame:
    import datasets

    from common.data.hub_dataset import to_frame

    datasets.disable_progress_bars()
    try:
        frame = to_frame(datasets.load_from_disk(str(folder)))
    except Exception as error:  # the library raises a dozen unrelated types
        raise DataError(f"{folder}: this saved dataset cannot be read: {str(error).splitlines()[0]}") from error
    frame.index = pd.RangeIndex(1, len(frame) + 1)
    return frame


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith((".", "_")))


def _folders(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_dir()]


def _read_texts(folder: Path, options: ReadOptions) -> pd.DataFrame:
    """Return the texts below a folder; the index is the file's path there. A final line break is no part of a text."""
    if not (classes := _folders(folder)):
        raise DataError(f"{folder}: it has no folders; allowed is one folder of .txt files for each label.")
    if beside := [path.name for path in _visible(folder) if path.is_file()]:
        say_once(f"{folder}: files beside the folders of the labels are not used: {choices(beside, _PROBLEMS)}")
    rows, index = [], []
    for path in (path for one in classes for path in _text_files(one)):
        name = f"{path.parent.name}/{path.name}"
        rows.append((_read_text(path, options.encoding or "utf-8"), path.parent.name, name))
        index.append(name)
    return pd.DataFrame(rows, columns=["text", "label", "file"], index=index, dtype=object)


def _text_files(folder: Path) -> Iterator[Path]:
    found = _visible(folder)
    if others := [path.name for path in found if path.is_dir() or path.suffix.lower() != ".txt"]:
        raise DataError(
            f"{folder}: it holds {choices(others, _PROBLEMS)}; in the folder of a label, only .txt files are allowed."
        )
    yield from found


def _read_text(path: Path, encoding: str) -> str:
    try:
        text = path.read_bytes().decode(without_mark(encoding))
    except UnicodeError as error:
        raise DataError(
            f"{path}: it is not {encoding}: {error}; set `encoding:` below `source:` in the dataset YAML."
        ) from error
    return text.removesuffix("\n").removesuffix("\r")
