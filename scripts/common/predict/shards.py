"""The shards of a planned prediction: contiguous ranges of rows, which are scored and written in parts.

    score_shard(plan, 3, scorer)     # writes <output>.shards/parts/<first row>-<end>.parquet

A part is written atomically, and its content depends on its rows alone: after a kill a shard resumes at its first
missing part, and two processes on the same shard write equal parts.
"""

import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common.core.errors import RunError, choices
from common.core.files import atomic_path
from common.core.formatting import ranges
from common.core.progress import Progress
from common.data.rows import Row, to_rows
from common.data.table_chain import ChainedReader
from common.predict.columns import PREDICTED, added_columns, prediction_columns
from common.predict.plan import Plan, input_changed, model_hash
from common.runs import requeue, run_folder

_FACTS = b"peftable"
_FACT_KEYS = {"plan", "process", "gpu", "seconds", "cpu_seconds", "ended"}


class Score(Protocol):
    """What scores rows."""

    def __call__(self, rows: Sequence[Row], progress: Progress) -> np.ndarray:
        """Return natural-log probabilities (N, C)."""
        ...

    @property
    def gpu(self) -> str | None:
        """The name of the GPU that the model runs on, None on a CPU; loads the model."""
        ...


def shard_command(folder: Path, *numbers: int) -> list[str]:
    """Return the arguments of Python that score some shards of a plan, in order; 4, 5, 6 is written 4-6."""
    return ["scripts/predict.py", "--plan", str(folder), "--shard", *ranges(numbers)]


def merge_command(folder: Path) -> list[str]:
    """Return the arguments of Python that merge a plan."""
    return ["scripts/predict.py", "--plan", str(folder), "--merge"]


def score_shard(plan: Plan, number: int, score: Score) -> int:
    """Score the rows of a shard's missing parts, write these, and return how many rows were scored.

    Args:
        plan: of the prediction.
        number: of the shard, from 0.
        score: called once for each part; never for a finished shard.

    Raises:
        RunError: the model is not the planned one.
        DataError: an input file is not the planned one, or a row is wrong.
    """
    start, stop = plan.bounds(number)
    name = f"shard {number}" if plan.shards > 1 else "predict"
    missing = [part for part in plan.parts(number) if fault(plan, *part)]
    count = sum(end - first for first, end in missing)
    if not missing:
        print(f"{name}: rows {start} to {stop} are finished", flush=True)
        return 0
    _check_unchanged(plan)
    dataset = run_folder.load_run_config(plan.folder).dataset
    clock = _laps()
    next(clock)
    gpu = score.gpu
    progress = Progress(name, stop - start, "row", done=stop - start - count)
    with ChainedReader(plan.files, dataset.text) as chain:
        for first, end in missing:
            rows = []
            for path, frame in chain.frames(first, end):
                rows += to_rows(frame, dataset, str(path), "input", labelled=False)
            scores = score(rows, progress)
            _write_part(plan, first, end, scores, {"gpu": gpu, **next(clock)})
            requeue.note_saved(f"shard {number}", end)
    progress.close()
    print(f"{name}: rows {start} to {stop} are finished, {count} of them now", flush=True)
    return count


def unfinished(plan: Plan) -> list[int]:
    """Return the shards that have missing or broken parts."""
    return [number for number in range(plan.shards) if any(fault(plan, *part) for part in plan.parts(number))]


def _check_unchanged(plan: Plan) -> None:
    if (found := model_hash(plan.model)) != plan.model_sha256:
        raise RunError(
            f"{plan.model}: the model has changed since the plan was made ({plan.model_sha256[:8]} → {found[:8]}). "
            "Put the old one back, or start over with FORCE=1."
        )
    for file in plan.inputs:  # the merge compares the contents, once
        path = Path(file.file)
        if not path.is_file() or path.stat().st_size != file.bytes:
            raise input_changed(path)


def _laps() -> Iterator[dict[str, Any]]:
    """Yield the time since the last lap; the first part's includes loading the model."""
    wall, cpu = time.perf_counter(), time.process_time()
    while True:
        now, used = time.perf_counter(), time.process_time()
        yield {"seconds": round(now - wall, 4), "cpu_seconds": round(used - cpu, 4), "ended": round(time.time(), 4)}
        wall, cpu = now, used


def _write_part(plan: Plan, first: int, end: int, scores: np.ndarray, facts: dict[str, Any]) -> None:
    decision = plan.decision
    columns = prediction_columns(scores, plan.labels, decision)
    places = decision.predicted(decision.calibrated(scores))
    table = pa.table(
        {
            "row": np.arange(first, end, dtype=np.int64),
            **columns,
            PREDICTED: places.astype(np.int32),  # an index: labels may mix words and numbers
        }
    )
    facts |= {"plan": plan.id, "process": f"{socket.gethostname()}-{os.getpid()}"}
    table = table.replace_schema_metadata({_FACTS: json.dumps(facts)})
    with atomic_path(plan.part(first, end)) as partial:
        pq.write_table(table, partial, write_page_checksum=True)


def read_part(plan: Plan, first: int, end: int) -> tuple[pa.Table, dict[str, Any]]:
    """Return a part as (its rows, how it was made), having checked all of it.

    Returns:
        Columns row, predicted (index of the label), probability_<label> and perhaps abstained; seconds, cpu_seconds,
        ended (of the epoch), gpu, process.

    Raises:
        RunError: it is missing, broken, of another plan, or holds other rows than its name says.
    """
    path = plan.part(first, end)
    if not path.is_file():
        raise RunError("missing")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        facts = json.loads((table.schema.metadata or {})[_FACTS])
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise RunError(f"broken: {str(error).splitlines()[0][:100]}") from error
    if facts.keys() != _FACT_KEYS:
        raise RunError("broken: it does not record how it was made")
    if facts["plan"] != plan.id:
        raise RunError("made for another plan")
    if table.column_names != ["row", *added_columns(plan.labels, plan.decision)]:
        raise RunError(f"other columns: {choices(table.column_names)}")
    if not np.array_equal(table.column("row").to_numpy(), np.arange(first, end)):
        raise RunError("other rows than its name says")
    if any(column.null_count for column in table.columns):
        raise RunError("missing values")
    return table, facts


def fault(plan: Plan, first: int, end: int) -> str:
    """Return what is wrong with a part, "" where nothing is."""
    try:
        read_part(plan, first, end)
    except RunError as error:
        return str(error)
    return ""
