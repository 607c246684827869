"""Merge a sharded prediction: prove that every row is there exactly once, write the output, and report the cost."""

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from common.cli.options import shown
from common.core.documents import read_object
from common.core.errors import RunError, choices
from common.core.files import check_fences, fsync, sha256_file, write_json
from common.core.formatting import duration
from common.data import table_files
from common.data.safe_csv import Formulas, without_formulas
from common.data.table_chain import ChainedReader
from common.data.table_writer import TableWriter, common_schema
from common.predict import shards
from common.predict.columns import ABSTAINED, PREDICTED, added_columns
from common.predict.inputs import check_free_output
from common.predict.plan import PARTS, Plan, input_changed

REPORT = "report.json"


def merge_report(plan: Plan) -> dict[str, Any] | None:
    """Return the report of a plan whose output is as the merge wrote it, None where it is not."""
    file = plan.folder / REPORT
    report = read_object(file)
    if report.get("plan") != plan.id or not plan.output.is_file():
        return None
    return report if report.get("output_sha256") == sha256_file(plan.output) else None


def merge_parts(plan: Plan) -> dict[str, Any]:
    """Write the output and the report, and return the report.

    Raises:
        RunError: parts are missing or broken, or the output exists.
        DataError: the input has changed, or cells do not fit the output's format.
    """
    start = time.perf_counter()
    check_free_output(plan.output, plan.replace)
    facts = _check_every_row_once(plan)
    _check_same_inputs(plan)
    whole = plan.folder / f".whole.{plan.output.name}"
    rows = _write(plan, whole)
    assert rows == plan.rows
    report = {
        "schema": 1,
        "plan": plan.id,
        "rows": rows,
        "shards": plan.shards,
        "parts": len(facts),
        "output_sha256": sha256_file(whole),
        **({"abstained_count": sum(part[ABSTAINED] for part in facts)} if plan.decision.abstention else {}),
        **_cost(facts),
        "merge_s": round(time.perf_counter() - start, 3),
    }
    # The report first: after a stop between the two, the merge runs again, and no output is in its way.
    write_json(plan.folder / REPORT, report)
    check_free_output(plan.output, plan.replace)
    check_fences(plan.output)
    whole.replace(plan.output)
    fsync(plan.output.parent)
    for left in (plan.folder / PARTS).glob(".*.partial.parquet"):  # of killed processes
        left.unlink(missing_ok=True)
    return report


def _check_every_row_once(plan: Plan) -> list[dict[str, Any]]:
    """Return the facts of all parts, in order, having checked that their rows are 0, 1, …, N-1."""
    found: list[dict[str, Any]] = []
    faults: dict[int, list[str]] = {}
    expected: set[Path] = set()
    reached = 0
    for number in range(plan.shards):
        for first, end in plan.parts(number):
            assert first == reached
            reached = end
            expected.add(plan.part(first, end))
            try:
                table, facts = shards.read_part(plan, first, end)
                abstained = sum(table.column(ABSTAINED).to_pylist()) if plan.decision.abstention else 0
                found.append(facts | {"rows": len(table), ABSTAINED: abstained})
            except RunError as error:
                faults.setdefault(number, []).append(f"rows {first} to {end} {error}")
    assert reached == plan.rows
    if faults:
        lines = [f"  shard {number}: {choices(texts, 3)}" for number, texts in faults.items()]
        again = ["python", *shards.shard_command(plan.folder, *faults)]
        raise RunError(
            f"{plan.folder}: {len(faults)} of {plan.shards} shards are not finished:\n"
            + "\n".join([*lines[:12], *([f"  … ({len(lines)} in all)"] if len(lines) > 12 else [])])
            + f"\nThe same command does what is left. By hand, before the merge: {shlex.join(again)}"
        )
    strays = sorted(set((plan.folder / PARTS).glob("[!.]*")) - expected)
    if strays:
        raise RunError(f"{strays[0]}: no part of this plan; other parts hold its rows. Delete it and merge again.")
    return found


def _check_same_inputs(plan: Plan) -> None:
    for file in plan.inputs:
        path = Path(file.file)
        if not path.is_file() or sha256_file(path) != file.sha256:
            raise input_changed(path)


def _write(plan: Plan, place: Path) -> int:
    """Write the output part by part to a file of the same file system, and return the number of its rows."""
    one, other = (table_files.format_of(path)[0] for path in (plan.files[0][0], plan.output))
    native = one == other == "parquet"
    schema = _output_schema(plan) if other == "parquet" else None
    parts = [part for number in range(plan.shards) for part in plan.parts(number)]
    formulas = Formulas()
    with (
        TableWriter(plan.output, schema, place) as output,
        ChainedReader(plan.files, plan.columns) as chain,
    ):
        for first, end in parts:
            added = _added(plan, *shards.read_part(plan, first, end)[:1])
            if native:
                assert schema is not None
                inner = pa.schema([schema.field(name) for name in plan.columns])
                tables = [chunk.replace_schema_metadata(None).cast(inner) for chunk in chain.arrow_tables(first, end)]
                table = pa.concat_tables(tables)
                for name, values in added.items():
                    with table_files.writing(plan.output):
                        table = table.append_column(schema.field(name), pa.array(values, schema.field(name).type))
                output.append(table)
            else:
                frame = pd.concat([chunk for _, chunk in chain.frames(first, end)])
                if other in table_files.SEPARATORS:
                    formulas.add(frame, plan.columns)
                    if plan.safe_csv:
                        added[PREDICTED] = without_formulas(added[PREDICTED])
                output.append(frame.assign(**added))
        if not parts:
            columns = [*plan.columns, *added_columns(plan.labels, plan.decision)]
            output.append(pd.DataFrame({name: pd.Series(dtype=object) for name in columns}))
    if note := formulas.note(plan.output):
        print(f"note: {note}", file=sys.stderr, flush=True)
    return output.rows


def _added(plan: Plan, part: pa.Table) -> dict[str, list[Any] | np.ndarray]:
    predicted, *others = added_columns(plan.labels, plan.decision)
    labels = [plan.labels[index] for index in part.column(predicted).to_pylist()]
    return {predicted: labels} | {name: part.column(name).to_numpy() for name in others}


def _output_schema(plan: Plan) -> pa.Schema:
    with table_files.writing(plan.output):
        types = {PREDICTED: pa.array(plan.labels).type, ABSTAINED: pa.bool_()}
    names = added_columns(plan.labels, plan.decision)
    fields = [pa.field(name, types.get(name, pa.float64())) for name in names]
    return pa.schema([*common_schema(plan.files, plan.columns, plan.output), *fields])


def _cost(facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return rows per second, of each process and in all, and the GPU or CPU hours per million rows."""
    processes: dict[tuple[str, str | None], dict[str, Any]] = {}
    for part in facts:
        key = part["process"], part["gpu"]
        entry = processes.setdefault(
            key, {"process": key[0], "gpu": key[1], "rows": 0, "seconds": 0.0, "cpu_seconds": 0.0}
        )
        for name in ("rows", "seconds", "cpu_seconds"):
            entry[name] = round(entry[name] + part[name], 4)
    for entry in processes.values():
        entry["rows_per_s"] = _ratio(entry["rows"], entry["seconds"])
    hours = {}
    for device, seconds in (("gpu", "seconds"), ("cpu", "cpu_seconds")):
        own = [entry for entry in processes.values() if (entry["gpu"] is None) == (device == "cpu")]
        rows, used = (sum(entry[name] for entry in own) for name in ("rows", seconds))
        hours[f"{device}_hours_per_million_rows"] = round(used / 3600 / rows * 1e6, 4) if rows else None
    # From the start of the first part to the end of the last, waiting in a queue included.
    starts, ends = [part["ended"] - part["seconds"] for part in facts], [part["ended"] for part in facts]
    elapsed = max(ends) - min(starts) if facts else 0.0
    return {
        "elapsed_s": round(elapsed, 3),
        "rows_per_s": _ratio(sum(part["rows"] for part in facts), elapsed),
        **hours,
        "processes": list(processes.values()),
    }


def _ratio(rows: int, seconds: float) -> float | None:
    return round(rows / seconds, 2) if seconds else None


def merge_summary(plan: Plan, report: dict[str, Any]) -> str:
    """Return the report in one line."""
    parts = [f"{shown(plan.output)}: {report['rows']} rows predicted in {plan.shards} shards, every row once"]
    parts += [line] if (line := abstained_line(report)) else []
    rates = [entry["rows_per_s"] for entry in report["processes"] if entry["rows_per_s"] is not None]
    if rates:
        several = f" ({len(rates)} processes, {min(rates):.1f} to {max(rates):.1f} each)" if len(rates) > 1 else ""
        parts.append(f"{report['rows_per_s']:.1f} rows/s{several}")
    for device in ("gpu", "cpu"):
        if (hours := report[f"{device}_hours_per_million_rows"]) is not None:
            parts.append(f"{hours:.2g} {device.upper()} hours per million rows")
    return "; ".join([*parts, f"merged in {duration(report['merge_s'])}"])


def abstained_line(report: dict[str, Any]) -> str:
    """Return how many rows are left to a person, "" where no row may be."""
    if "abstained_count" not in report or not report["rows"]:
        return ""
    left, rows = report["abstained_count"], report["rows"]
    return f"{left} of them ({left / rows:.1%}) are left to a person: column {ABSTAINED}"
