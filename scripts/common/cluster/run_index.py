"""Find every run, baseline, submitted prediction and report job below an outputs folder, and read its JSON files."""

import dataclasses
import itertools
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from common.cluster import submit_record
from common.cluster.submit_record import Submission
from common.core.documents import is_of, read_fields, read_object
from common.core.errors import RunError, choices, nearest
from common.core.progress import PROGRESS, ProgressDocument
from common.runs import run_folder, run_lock
from common.runs.code_snapshot import copy_of
from common.runs.documents import Failure
from common.runs.run_lock import Holder


@dataclasses.dataclass(frozen=True)
class RunEntry:
    """A run folder as its files describe it.

    Attributes:
        name: its path below the outputs folder.
        submission: the newest one, None where it was never submitted.
        holder: the last holder of the run lock, None where no process has worked on it.
        progress, failure: {} where the file is missing.
        is_finished: whether it has metrics.
        is_trained: whether training has ended.
        damaged: names of those of its files that cannot be read.
    """

    name: str
    path: Path
    submission: Submission | None
    holder: Holder | None
    progress: ProgressDocument
    failure: Failure
    is_finished: bool
    is_trained: bool
    damaged: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether it is not finished and was submitted, so that a scheduler may know more of it."""
        # A rejected submission counts, too: an sbatch that gave up waiting for an answer may have been heard.
        return not self.is_finished and self.submission is not None


def named(outputs: Path, model: str | None, dataset: str | None) -> list[RunEntry]:
    """Return the runs of a job and of a dataset; where none is named, all runs, predictions and the report's job.

    Raises:
        RunError: there are runs, and none of that name.
    """
    if model is None and dataset is None:
        return find(outputs) + predictions(outputs) + collecting(outputs)
    runs = find(outputs)
    found = [
        run
        for run in runs
        if (model is None or model in run.name.split("/")[:2])
        and (dataset is None or run.name.split("/")[0] == dataset)
    ]
    if not found and runs:
        there = sorted({"/".join(run.name.split("/")[:2]) for run in runs})
        words = {part for name in there for part in name.split("/")}
        unknown = next((word for word in (model, dataset) if word and word not in words), "")
        what = " on ".join(word for word in (model, dataset) if word)
        raise RunError(f"no run of {what} here.{nearest(unknown, words)} There are: {choices(there)}.")
    return found


def find(outputs: Path) -> list[RunEntry]:
    """Return every run and baseline below an outputs folder, finished or not."""
    return [read(path, str(path.relative_to(outputs))) for path in _run_folders(outputs, top=True)]


def collecting(outputs: Path) -> list[RunEntry]:
    """Return the entry of the job that makes the report, [] where none was submitted."""
    path = outputs / submit_record.COLLECT
    return [read(path, submit_record.COLLECT)] if (path / submit_record.SUBMIT).exists() else []


def predictions(outputs: Path) -> list[RunEntry]:
    """Return the predictions that were submitted as arrays, and their merges, by path; deleted plans are skipped."""
    found = []
    for pointer in sorted((outputs / submit_record.PREDICTIONS).glob("*.json")):
        path = Path(str(read_object(pointer).get("folder", "")))
        plan = read_object(path / "plan.json")
        counts = [plan.get(key) for key in ("rows", "shards", "part_rows")]
        if not plan.get("id") or not all(is_of(count, int) and count for count in counts):
            continue  # deleted, or damaged
        is_merged = read_object(path / "report.json").get("plan") == plan["id"]
        bounds = [plan["rows"] * number // plan["shards"] for number in range(plan["shards"] + 1)]
        total = sum(-(-(end - start) // plan["part_rows"]) for start, end in itertools.pairwise(bounds))
        # A name that begins with a dot is a file whose writer was killed.
        done = sum(1 for _ in (path / "parts").glob("[!.]*.parquet"))
        parts = ProgressDocument(done=done, total=total)
        for place, progress in ((path, parts), (path / submit_record.MERGE, ProgressDocument())):
            relative = os.path.relpath(place)
            one = read(place, str(place) if relative.startswith("..") else relative)
            is_finished = is_merged or (place == path and done == total)
            found.append(dataclasses.replace(one, is_finished=is_finished, progress=progress))
    return found


def code_in_use(outputs: Path, active: Collection[str], executor: str) -> set[str]:
    """Return the names of the copies of the code that submitted runs below an outputs folder still need.

    Args:
        outputs: the outputs folder.
        active: the names of the jobs that wait or run; their copies are needed whatever the run folder says.
        executor: whose jobs are all among `active`.
    """
    runs = find(outputs) + predictions(outputs)
    submissions = [run.submission for run in runs if run.submission and (run.is_open or run.submission.name in active)]
    # The report's job has no metrics of its own: it is over when its scheduler knows it no more.
    jobs = [one.submission for one in collecting(outputs) if one.submission]
    report = [job for job in jobs if job.name in active or job.executor != executor]
    return {name for one in [*submissions, *report] if (name := copy_of(one.command)) is not None}


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
        is_skipped = (
            entry.name.startswith(".")
            or ".replaced-" in entry.name
            or entry.name.endswith(".shards")
            or (top and entry.name in run_folder.NO_RESULTS)
        )
        if not is_skipped and entry.is_dir():
            yield from _run_folders(Path(entry.path))


def read(path: Path, name: str) -> RunEntry:
    """Return the entry of a run folder, read now."""
    submission, holder, is_finished = submit_record.read(path), run_lock.read(path), run_folder.is_finished(path)
    failure = read_fields(path / run_folder.FAILURE, Failure)
    read_well = {
        run_folder.METRICS: is_finished,
        run_folder.FAILURE: "error" in failure,
        submit_record.SUBMIT: submission is not None,
        run_lock.FILE: holder is not None,
    }
    return RunEntry(
        name=name,
        path=path,
        submission=submission,
        holder=holder,
        progress=read_fields(path / PROGRESS, ProgressDocument),
        failure=failure,
        is_finished=is_finished,
        is_trained=(path / run_folder.TRAINING).exists(),
        damaged=tuple(file for file, is_read in read_well.items() if not is_read and (path / file).exists()),
    )
