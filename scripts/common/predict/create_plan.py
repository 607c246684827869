"""Make the plan of a prediction: every row is checked, so that an empty cell is found now and not in the last hour.

The same command resumes a plan. A command that would make another plan in its place is refused, with the differences.
"""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from common.config.dataset import Dataset
from common.core import yaml_io
from common.core.errors import ConfigError, DataError, RunError, choices
from common.core.files import sha256, sha256_file, write_json, write_text
from common.core.progress import Progress
from common.data import table_files
from common.data.rows import Row, to_rows
from common.data.table_reader import open_table
from common.predict.columns import check_free_columns
from common.predict.decision import PLAIN, Decision
from common.predict.inputs import reading_input
from common.predict.plan import PLAN, SCHEMA, Input, Plan, model_hash, plan_folder, read_plan
from common.runs import run_folder
from common.runs.run_config import RunConfig

PART_ROWS = 4_096  # a killed process loses at most these; enough rows to batch texts of similar length
_XLSX_ROWS = 1_048_575  # without the header
_CHECKED_AT_ONCE = 8_192


def create_plan(
    output: Path,
    files: Sequence[Path],
    config: RunConfig,
    model: Path,
    adapter: bool,
    shards: int,
    force: bool = False,
    part_rows: int | None = None,
    safe_csv: bool = True,
    decision: Decision = PLAIN,
) -> Plan:
    """Write the plan of a prediction, or read an existing equal one; the caller holds `plan_lock(output)`.

    Args:
        output: the table that the merge writes.
        files: the input files, in order.
        config: of the run that predicts.
        model: a run's `model/`, or the folder of an external adapter.
        adapter: whether `model` is an external adapter.
        shards: number of shards.
        force: start over; the parts of an older plan are deleted.
        part_rows: most rows of a part, `PART_ROWS` by default.
        safe_csv: see `Plan`.
        decision: what is made of the scores.

    Raises:
        DataError: a row or a file of the input is wrong.
        RunError: there is another plan; the message lists the differences.
    """
    table_files.check_writable(output)
    output = output.absolute()
    if output.resolve() in {path.resolve() for path in files}:
        raise ConfigError(f"OUTPUT={output} is one of the inputs.")
    folder = plan_folder(output)
    older = None if force or not (folder / PLAN).exists() else read_plan(folder)
    hashes = _hashes(files)
    if older is not None and [file.sha256 for file in older.inputs] == hashes:
        counts, columns = [file.rows for file in older.inputs], older.columns
    else:
        counts, columns = _survey(files, config.dataset)
    check_free_columns(columns, config.dataset.labels, files[0], decision)
    if table_files.format_of(output)[0] == "xlsx" and sum(counts) > _XLSX_ROWS:
        raise DataError(
            f"{output}: xlsx holds {_XLSX_ROWS:,} rows, the input has {sum(counts):,}; choose another format."
        )
    inputs = [
        Input(str(path.absolute()), rows, path.stat().st_size, content)
        for path, rows, content in zip(files, counts, hashes, strict=True)
    ]
    plan = Plan(
        "",
        folder,
        output,
        force or (older is not None and older.replace),
        model.absolute(),
        adapter,
        model_hash(model),
        list(config.dataset.labels),
        columns,
        inputs,
        shards,
        part_rows or PART_ROWS,
        safe_csv,
        decision,
    )
    identity = plan.identity(config)
    plan = dataclasses.replace(plan, id=sha256(json.dumps(identity, sort_keys=True).encode())[:16])
    if older is not None:
        _check_same(plan, older.identity(run_folder.load_run_config(folder)), identity)
    elif folder.exists():
        shutil.rmtree(folder)
    write_text(folder / run_folder.CONFIG, yaml_io.dump(config.plain()))
    document = dataclasses.asdict(plan) | {"output": str(plan.output), "model": str(plan.model), "rows": plan.rows}
    del document["folder"]
    write_json(folder / PLAN, {"schema": SCHEMA, **document})
    return plan


def _hashes(files: Sequence[Path]) -> list[str]:
    if missing := next((path for path in files if not path.is_file()), None):
        raise DataError(f"{missing}: there is no such file.")
    return [sha256_file(path) for path in files]


def _check_same(plan: Plan, then: dict[str, Any], now: dict[str, Any]) -> None:
    changes = [
        f"{key}: {then.get(key, 'absent')} → {now.get(key, 'absent')}"
        for key in [*then, *(key for key in now if key not in then)]
        if then.get(key) != now.get(key)
    ]
    if changes:
        shown = [*changes[:12], f"… ({len(changes)} differences in all)"] if len(changes) > 12 else changes
        raise RunError(
            f"{plan.folder}: another prediction was planned here:\n  " + "\n  ".join(shown) + "\n"
            "Give another OUTPUT=, or start over (its parts are deleted) with FORCE=1."
        )


def _survey(files: Sequence[Path], dataset: Dataset) -> tuple[list[int], list[str]]:
    """Return the number of rows of every file and the columns of all, having checked every text."""
    counts: list[int] = []
    columns: list[str] = []
    progress = Progress("check the input", len(files), "file")
    for path in files:
        with reading_input():
            rows, found, is_open = _survey_file(path, dataset)
        if is_open:
            columns += [name for name in found if name not in columns]
        elif columns and set(found) != set(columns):
            differing = [name for name in [*found, *columns] if (name in found) != (name in columns)]
            raise DataError(
                f"{path}: its columns differ from those of {files[0]}; only one of both has {choices(differing)}."
            )
        else:
            columns = columns or found
        counts.append(rows)
        progress.update(1)
    progress.close()
    _texts(pd.DataFrame(columns=columns, dtype=object), dataset, files[0])
    return counts, columns


def _survey_file(path: Path, dataset: Dataset) -> tuple[int, list[str], bool]:
    """Return a file's number of rows, its columns, and whether other files of its kind may have others (jsonl)."""
    with open_table(path) as source:
        columns, is_open = source.columns, source.finds_columns
    if not is_open:
        _texts(pd.DataFrame(columns=columns, dtype=object), dataset, path)
    with open_table(path, None if is_open else dataset.text) as source:
        while len(frame := source.read(_CHECKED_AT_ONCE)):
            _texts(frame, dataset, path)
        return source.position, source.columns if is_open else columns, is_open


def _texts(frame: pd.DataFrame, dataset: Dataset, path: Path) -> list[Row]:
    return to_rows(frame, dataset, str(path), "input", labelled=False)
