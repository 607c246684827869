"""The predictions of runs, row by row and small, for the HTML report.

A row set is a split of a dataset with the same rows in every run. Its predictions are columns of 16-bit numbers:
50,000 rows take 400 kB for each run.
"""

import base64
import dataclasses
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.config.dataset import SPLITS
from common.core.files import read_jsonl
from common.core.formatting import count, shortened
from common.evaluation.metrics import Prediction
from common.evaluation.write_results import predictions_file
from common.report import html_texts
from common.runs.run_config import RunConfig

MAX_ROWS = 50_000  # of one row set
MAX_BYTES = 12_000_000  # of all predictions in the page
ABSENT, NO_LABEL = 65_535, 65_534  # the run has not scored the row; the generated text is no label
_UNITS = 10_000  # a probability is stored as a whole number of these parts
_BYTES = 8  # in base64, of one row's three numbers in one run
_ORDER = ("test", *(split for split in SPLITS if split != "test"))


@dataclasses.dataclass(frozen=True)
class ScoredRun:
    """A run whose predictions are on this machine, or the runs of all folds, which are one run over all rows.

    Attributes:
        number: of the run in the page.
        folders: its run folder, or that of each fold.
        configs: the recorded config of each folder.
    """

    number: int
    folders: tuple[Path, ...]
    configs: tuple[RunConfig, ...]

    @property
    def rows_sha256(self) -> str:
        """The hash of its rows, of all folds together."""
        first = self.configs[0]
        return first.folds.sha256 if first.folds else first.data_sha256

    def predictions(self, split: str) -> list[Prediction]:
        """Return the records of a split, none where it was not scored; of folds, only test rows are not shared."""
        if split != "test" and len(self.folders) > 1:
            return []
        files = [predictions_file(folder, split) for folder in self.folders]
        return [record for file in files for record in read_jsonl(file)] if all(map(Path.is_file, files)) else []


@dataclasses.dataclass
class RowSet:
    """The rows of a split that runs of one dataset have scored, and their predictions.

    Attributes:
        split: its name.
        run: the first one, whose rows they are.
        places: {id: place of the row}.
        gold, groups: label and group of each row; None is unknown.
        predictions: by the run's number, the records of its file.
    """

    split: str
    run: ScoredRun
    places: dict[str, int] = dataclasses.field(default_factory=dict)
    gold: list[str] = dataclasses.field(default_factory=list)
    groups: list[str | None] = dataclasses.field(default_factory=list)
    predictions: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)

    def add(self, run: ScoredRun, records: Sequence[Prediction]) -> None:
        """Add the predictions of a run; rows that no run before has scored come last."""
        for record in records:
            if record["id"] not in self.places:
                self.places[record["id"]] = len(self.places)
                self.gold.append(str(record["gold"]))
                self.groups.append(None if record["group"] is None else str(record["group"]))
        self.predictions[run.number] = _columns(records, self.places, self.labels)

    @property
    def labels(self) -> list[str]:
        """The labels in class order, as text."""
        return [str(label) for label in self.run.configs[0].dataset.labels]


def read(runs: Sequence[ScoredRun]) -> list[RowSet]:
    """Return the row sets of the runs of one dataset, test first; runs on different data have different row sets."""
    found: dict[tuple[int, str], RowSet] = {}
    for run in runs:
        for place, split in enumerate(_ORDER):
            if records := run.predictions(split):
                found.setdefault((place, run.rows_sha256), RowSet(split, run)).add(run, records)
    return [found[key] for key in sorted(found)]


def row_limit(sets: Sequence[RowSet], max_rows: int = MAX_ROWS, max_bytes: int = MAX_BYTES) -> int:
    """Return how many rows of each row set a page can hold."""

    def size(limit: int) -> int:
        return sum(min(len(rows.places), limit) * len(rows.predictions) * _BYTES for rows in sets)

    low, high = 0, max_rows + 1  # `low` fits
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) <= max_bytes else (low, middle)
    return low


def document(rows: RowSet, limit: int) -> dict[str, Any]:
    """Return a row set as the page's script reads it (`html/data.js`); of more rows than `limit`, a random sample."""
    total = len(rows.places)
    kept = sorted(random.Random(0).sample(range(total), limit)) if total > limit else list(range(total))  # noqa: S311
    ids = list(rows.places)
    groups = [rows.groups[place] for place in kept]
    names = sorted({group for group in groups if group is not None})
    label_places = {label: place for place, label in enumerate(rows.labels)}
    group_places = {name: place for place, name in enumerate(names)}
    texts_of, problem = html_texts.load(rows.run.configs, rows.split)
    shown = [texts_of[ids[place]] for place in kept] if texts_of and all(ids[p] in texts_of for p in kept) else None
    notes = [f"Shown are {count(limit)} of {count(total)} rows, drawn at random."] if total > limit else []
    if shown is None:
        notes.append(f"The texts are not shown: {problem or 'these rows are not among those of the dataset.'}")
    return {
        "split": rows.split,
        "data": rows.run.rows_sha256,
        "total": total,
        "ids": [ids[place] for place in kept],
        "gold": packed([label_places.get(rows.gold[place], ABSENT) for place in kept]),
        "groups": names,
        "group": packed([ABSENT if group is None else group_places[group] for group in groups]) if names else None,
        "texts": html_texts.columns(rows.run.configs[0].dataset.text, shown) if shown is not None else [],
        "notes": notes,
        "predictions": [
            {"run": number, **_chosen(columns, np.array(kept, dtype=np.int64))}
            for number, columns in rows.predictions.items()
        ],
    }


def packed(numbers: Sequence[int] | np.ndarray) -> str:
    """Return whole numbers below 65,536 as base64 of little-endian 16-bit numbers."""
    return base64.b64encode(np.asarray(numbers, dtype="<u2").tobytes()).decode()


def _columns(records: Sequence[Prediction], places: dict[str, int], labels: Sequence[str]) -> dict[str, Any]:
    """Return the place of the label that each row was given, its probability, and that of the gold label."""
    label_places = {label: place for place, label in enumerate(labels)}
    found = {name: np.full(len(places), ABSENT, dtype="<u2") for name in ("predicted", "confidence", "gold")}
    generated: dict[int, str] = {}
    for record in records:
        place, scores = places[record["id"]], record["scores"]
        for name, label in (("confidence", record["predicted"]), ("gold", record["gold"])):
            if label is not None:
                found[name][place] = round(_UNITS * min(1.0, math.exp(scores[str(label)])))
        if record["predicted"] is None:
            found["predicted"][place] = NO_LABEL
            generated[place] = shortened(record.get("generated") or "", 200)
        else:
            found["predicted"][place] = label_places[str(record["predicted"])]
    return found | {"generated": generated}


def _chosen(columns: dict[str, Any], kept: np.ndarray) -> dict[str, Any]:
    """Return the packed columns at the kept places; a run that was read early knows fewer rows than there are."""
    result: dict[str, Any] = {}
    for name in ("predicted", "confidence", "gold"):
        known = columns[name]
        result[name] = packed(np.where(kept < len(known), known[np.minimum(kept, len(known) - 1)], ABSENT))
    new_places = {int(place): number for number, place in enumerate(kept)}
    generated = columns["generated"]
    result["generated"] = {str(new_places[place]): text for place, text in generated.items() if place in new_places}
    return result
