"""What the folders of runs, baselines, predictions and the report say of themselves, finished or not."""

import dataclasses
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.cluster import submit_record
from common.core import files
from common.core.errors import RunError, choices, nearest
from common.core.progress import PROGRESS
from common.runs import run_folder, run_lock


@dataclasses.dataclass(frozen=True)
class Folder:
    """What a run folder says: its JSON files, {} where one is missing, and whether there are metrics."""

    name: str
    path: Path
    submit: dict[str, Any]
    owner: dict[str, Any]
    progress: dict[str, Any]
    failure: dict[str, Any]
    is_finished: bool
    is_trained: bool

    @property
    def is_open(self) -> bool:
        """Whether a scheduler was given the run and may know more of it."""
        # Also what it refused: an sbatch that has waited too long for an answer may have been heard.
        return not self.is_finished and bool(self.submit)


def named(outputs: Path, model: str | None, dataset: str | None) -> list[Folder]:
    """Return the runs of a job and of a data set; where none is named, all, with the predictions and the report.

    Raises:
        RunError: there are runs, and none of that name.
    """
    if model is None and dataset is None:
        return find(outputs) + predictions(outputs) + collecting(outputs)
    folders = find(outputs)
    found = [
        folder
        for folder in folders
        if (model is None or model in folder.name.split("/")[:2])
        and (dataset is None or folder.name.split("/")[0] == dataset)
    ]
    if not found and folders:
        there = sorted({"/".join(folder.name.split("/")[:2]) for folder in folders})
        words = {part for name in there for part in name.split("/")}
        unknown = next((word for word in (model, dataset) if word and word not in words), "")
        what = " on ".join(word for word in (model, dataset) if word)
        raise RunError(f"no run of {what} here.{nearest(unknown, words)} There are: {choices(there)}.")
    return found


def find(outputs: Path) -> list[Folder]:
    """Return every run and baseline below an outputs folder, finished or not."""
    return [read(path, str(path.relative_to(outputs))) for path in _run_folders(outputs, top=True)]


def collecting(outputs: Path) -> list[Folder]:
    """Return the folder of the job that makes the report, where one was submitted."""
    path = outputs / submit_record.COLLECT
    return [read(path, submit_record.COLLECT)] if (path / submit_record.SUBMIT).exists() else []


def predictions(outputs: Path) -> list[Folder]:
    """Return the predictions that were submitted as arrays, and their merges, by path; a deleted plan is none."""
    found = []
    for pointer in sorted((outputs / submit_record.PREDICTIONS).glob("*.json")):
        path = Path(str(_json(pointer).get("folder", "")))
        plan = _json(path / "plan.json")
        if not plan:
            continue
        is_merged = _json(path / "report.json").get("plan") == plan["id"]
        bounds = [plan["rows"] * number // plan["shards"] for number in range(plan["shards"] + 1)]
        total = sum(-(-(end - start) // plan["part_rows"]) for start, end in itertools.pairwise(bounds))
        # What begins with a dot was being written when its process was killed.
        parts = {"done": sum(1 for _ in (path / "parts").glob("[!.]*.parquet")), "total": total}
        for place, progress in ((path, parts), (path / submit_record.MERGE, {})):
            relative = os.path.relpath(place)
            one = read(place, str(place) if relative.startswith("..") else relative)
            is_finished = is_merged or (place == path and parts["done"] == total)
            found.append(dataclasses.replace(one, is_finished=is_finished, progress=progress))
    return found


def _run_folders(folder: Path, top: bool = False) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    names = {entry.name for entry in entries}
    if run_folder.CONFIG in names or submit_record.SUBMIT in names:
        yield folder
        return
    for entry in entries:
        is_left = (
            entry.name.startswith(".")
            or ".replaced-" in entry.name
            or entry.name.endswith(".shards")
            or (top and entry.name in run_folder.NO_RESULTS)
        )
        if not is_left and entry.is_dir():
            yield from _run_folders(Path(entry.path))


def read(path: Path, name: str) -> Folder:
    """Return what a folder says now."""
    submit, owner, progress, failure = (
        _json(path / file) for file in (submit_record.SUBMIT, run_lock.FILE, PROGRESS, run_folder.FAILURE)
    )
    is_finished, is_trained = (path / run_folder.METRICS).exists(), (path / run_folder.TRAINING).exists()
    return Folder(name, path, submit, owner, progress, failure, is_finished, is_trained)


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(files.read_json(path))
    except (OSError, ValueError):
        return {}
