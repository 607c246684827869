"""The plan of a sharded prediction: `<output>.shards/plan.json` records which rows of which files, and which model.

`create_plan` makes it.
"""

import dataclasses
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from common.config.label_values import Label
from common.core.documents import require_object
from common.core.errors import ConfigError, DataError, ModelError, RunError
from common.core.files import sha256, sha256_file
from common.core.locks import lock
from common.predict.decision import PLAIN, Decision
from common.runs.run_config import RunConfig

SCHEMA = 1
PLAN, PARTS = "plan.json", "parts"


@dataclasses.dataclass(frozen=True)
class Input:
    """One file of the input."""

    file: str
    rows: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is predicted, by which model, in how many shards.

    Attributes:
        id: a hash of `identity`, recorded in every part.
        folder: `<output>.shards`; its `config.yaml` is a copy of the run's.
        output: the table that the merge writes.
        replace: whether the merge may replace an existing output (FORCE=1).
        model: a run's `model/`, or the folder of an external adapter.
        adapter: whether `model` is an external adapter.
        model_sha256: of the model's files.
        labels: in class order.
        columns: of the input.
        inputs: the input files, in order.
        shards: number of shards.
        part_rows: most rows of a part.
        safe_csv: whether csv and tsv files get no formulas in the columns that are added.
        decision: what is made of the scores.
    """

    id: str
    folder: Path
    output: Path
    replace: bool
    model: Path
    adapter: bool
    model_sha256: str
    labels: list[Label]
    columns: list[str]
    inputs: list[Input]
    shards: int
    part_rows: int
    safe_csv: bool = True
    decision: Decision = PLAIN

    @property
    def rows(self) -> int:
        """Number of rows of all input files."""
        return sum(file.rows for file in self.inputs)

    @property
    def files(self) -> list[tuple[Path, int]]:
        """The input files as (file, number of rows)."""
        return [(Path(file.file), file.rows) for file in self.inputs]

    def identity(self, config: RunConfig) -> dict[str, Any]:
        """Return what decides the content of the parts, the run's configuration included; paths are no part of it."""
        files = {
            f"input {number} ({Path(file.file).name})": file.sha256 for number, file in enumerate(self.inputs, start=1)
        }
        sizes = {"number of shards": self.shards, "rows of a part": self.part_rows, "number of files": len(files)}
        model = {"weights of the model": self.model_sha256}
        return config.identity() | sizes | model | self.decision.identity(self.labels) | files

    def bounds(self, number: int) -> tuple[int, int]:
        """Return a shard's first row and the row after its last.

        Raises:
            ConfigError: there is no such shard.
        """
        if not 0 <= number < self.shards:
            raise ConfigError(f"{self.folder}: there is no shard {number}; allowed are 0 to {self.shards - 1}.")
        return self.rows * number // self.shards, self.rows * (number + 1) // self.shards

    def parts(self, number: int) -> list[tuple[int, int]]:
        """Return the row ranges of a shard's parts, in order."""
        start, stop = self.bounds(number)
        return [(first, min(first + self.part_rows, stop)) for first in range(start, stop, self.part_rows)]

    def part(self, first: int, end: int) -> Path:
        """Return a part's file."""
        return self.folder / PARTS / f"{first}-{end}.parquet"


def plan_folder(output: Path) -> Path:
    """Return the plan folder of an output."""
    return output.with_name(f"{output.name}.shards")


def plan_lock(output: Path) -> AbstractContextManager[None]:
    """Lock an output's plan while it is made and submitted: a second command waits, and then finds the plan."""
    return lock(output.with_name(f".{output.name}.shards.lock"))  # not in the folder, which a new plan deletes


def model_hash(folder: Path) -> str:
    """Return the SHA-256 of the files of a saved model's folder.

    Raises:
        ModelError: there are none.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    if not files:
        raise ModelError(f"{folder}: there is no saved model.")
    return sha256("".join(f"{path.name} {sha256_file(path)}\n" for path in files).encode())


def input_changed(path: Path) -> DataError:
    """Return the error of an input file that differs from the planned one, or is gone."""
    found = "has changed since the plan was made" if path.is_file() else "is gone since the plan was made"
    return DataError(f"{path}: {found}. Put the old file back, or start over with FORCE=1.")


def read_plan(folder: Path) -> Plan:
    """Read a plan.

    Raises:
        RunError: there is none.
    """
    folder = folder.absolute()
    file = folder / PLAN
    if not file.is_file():
        raise RunError(f"{folder}: there is no plan here (no {PLAN}).")
    fix = f"Remove {folder} and start again."
    optional: dict[str, Any] = {"safe_csv": True, "decision": {}}  # older plans are without
    given = [field.name for field in dataclasses.fields(Plan) if field.name not in ("folder", *optional)]
    found = optional | require_object(file, given, fix)
    places = {"folder": folder, "output": Path(found["output"]), "model": Path(found["model"])}
    parsed = {"inputs": [Input(**entry) for entry in found["inputs"]], "decision": Decision.read(found["decision"])}
    return Plan(**{field.name: (found | places | parsed)[field.name] for field in dataclasses.fields(Plan)})
