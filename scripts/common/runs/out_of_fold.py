"""The out-of-fold predictions of a job: those of every fold's test rows, by the run that has not trained on them.

They are one file beside the folds' folders, written when the last fold is finished. It has the same bytes whatever the
order in which the folds were finished. Only folds of the same rows, divided in the same way, are put together: a row
would be missing or twice where the data or `splits` were changed between two folds.
"""

import json
import re
from pathlib import Path
from typing import Any

from common.config.dataset import Folds, Splits
from common.core.errors import PeftableError
from common.core.files import read_json, read_jsonl, remove, sha256, write_jsonl
from common.runs import run_folder
from common.runs.run_config import RunConfig

PREDICTIONS = "predictions-test.jsonl"
_LONG_NAME = 80  # of a variant: it is cut with its fold in it, so where depends on the digits of the fold


def write_out_of_fold(folder: Path, config: RunConfig) -> Path | None:
    """Write the predictions of all folds as one file, and return it; None without folds.

    While folds are missing, it returns None, too, and there is no file. Folds of other rows are named on the terminal,
    and are missing.

    Args:
        folder: of a finished run.
        config: of that run.

    Returns:
        `<outputs>/<dataset>/<job>/out-of-fold[-<variant>]-seed-<n>.jsonl`: the records of predictions-test.jsonl and
        "fold", by fold and row.
    """
    if config.folds is None:
        return None
    place = folder.parents[1]  # <outputs>/<dataset>/<job>: a fold is a variant
    members = _finished_folds(place, folder.name, config)
    variant = variant_without_fold(config)
    file = place / f"out-of-fold{f'-{variant}' if variant else ''}-{folder.name}.jsonl"
    if len(members) < config.folds.count:
        remove(file)  # of runs that are no longer there
        return None
    records = [
        {**record, "fold": number} for number in sorted(members) for record in read_jsonl(members[number] / PREDICTIONS)
    ]
    write_jsonl(file, records)
    return file


def _finished_folds(place: Path, last: str, config: RunConfig) -> dict[int, Path]:
    """Return the folders of finished runs that differ from a run in their fold alone, by fold."""
    found = {}
    for file in place.glob(f"*/{last}/{run_folder.METRICS}"):
        try:
            other = run_folder.load_run_config(file.parent)
        except PeftableError:
            continue  # damaged; `make status` says so
        number = other.dataset.splits.fold
        if number is None or without_fold(other) != without_fold(config) or not _has_all_rows(file.parent):
            continue
        if _division(other) == _division(config):
            found[number] = file.parent
        else:
            print(
                f"{file.parent}: it is a fold of other rows, or of other `splits`, and is left out of the out-of-fold "
                "predictions. Start it over with FORCE=1.",
                flush=True,
            )
    return found


def _division(config: RunConfig) -> tuple[Folds | None, Splits]:
    """Return which rows the folds divide, and how."""
    return config.folds, config.dataset.splits.model_copy(update={"fold": None})


def _has_all_rows(folder: Path) -> bool:
    try:
        return len(read_jsonl(folder / PREDICTIONS)) == read_json(folder / run_folder.METRICS)["test_n"]
    except (OSError, ValueError, KeyError):
        return False


def without_fold(config: RunConfig) -> dict[str, Any]:
    """Return what the runs of all folds have in common; their rows differ."""
    return {key: value for key, value in config.identity().items() if key not in ("fold", "data.sha256")}


def variant_without_fold(config: RunConfig) -> str:
    """Return the name that the variants of all folds share, "" for the job itself."""
    others = re.sub(r"(^|,)fold=\d+", "", config.variant).strip(",")
    hashed = re.fullmatch(r"(.*)-[0-9a-f]{8}", others)  # of the whole name, with the fold
    name = hashed[1] if hashed else others
    if hashed or len(name) > _LONG_NAME:
        settings = {key: value for key, value in without_fold(config).items() if key != "seed"}
        return f"{name[:_LONG_NAME]}-{sha256(json.dumps(settings, sort_keys=True).encode())[:8]}"
    return name
