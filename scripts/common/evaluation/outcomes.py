"""The outcome of every test row of a run, small and without text, so that two runs can be tested against each other.

Rows are sorted by group, gold label and the hash of their id. So the order does not depend on the order of a file, the
gold labels are mere counts, and the predictions compress well: 25,000 rows take some kB.
"""

import base64
import dataclasses
import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from common.config.label_values import Label
from common.core.files import sha256

SCHEMA = 1


def file_name(split: str) -> str:
    """Return the name of the file of a split's outcomes."""
    return f"outcomes-{split}.json"


FILE = file_name("test")


@dataclasses.dataclass(frozen=True, eq=False)
class Outcomes:
    """What one run predicted for the N test rows.

    Attributes:
        rows_sha256: of the ids, gold labels and groups of all rows, in order; equal for runs on the same rows.
        classes: number of labels C.
        gold: (N,) place of each row's label.
        predicted: (N,) place of the predicted label; C for a generated text that is no label.
        groups: (N,) number of each row's group, in the order of their names; None where rows have no group.
        rows: (N,) a number of each row, made of its id: it tells which rows of two folds are the same; None where
            no row is in two of them.
    """

    rows_sha256: str
    classes: int
    gold: np.ndarray
    predicted: np.ndarray
    groups: np.ndarray | None
    rows: np.ndarray | None = None

    def confusion(self) -> np.ndarray:
        """Return counts (C, C + 1): rows gold, columns predicted, the last one for texts that are no label."""
        cells = self.gold.astype(np.int64) * (self.classes + 1) + self.predicted
        return np.bincount(cells, minlength=self.classes * (self.classes + 1)).reshape(self.classes, -1)

    def document(self) -> dict[str, Any]:
        """Return the outcomes as the content of a JSON file; `read` is the inverse."""
        groups = np.zeros(len(self.gold), dtype=np.int64) if self.groups is None else self.groups
        counts = np.zeros((int(groups.max()) + 1, self.classes), dtype=np.int64)
        np.add.at(counts, (groups, self.gold), 1)
        return {
            "schema": SCHEMA,
            "rows_sha256": self.rows_sha256,
            "classes": self.classes,
            "has_groups": self.groups is not None,
            "counts": _packed(counts),
            "predicted": _packed(self.predicted),
            **({"rows": _packed(self.rows)} if self.rows is not None else {}),
        }


def of_predictions(records: Sequence[dict[str, Any]], labels: Sequence[Label], with_rows: bool = False) -> Outcomes:
    """Return the outcomes of the records of a `predictions-<split>.jsonl`, and the rows' numbers if `with_rows`."""
    places = {str(label): place for place, label in enumerate(labels)}
    has_groups = any(record["group"] is not None for record in records)
    rows = sorted(
        (
            str(record["group"]) if record["group"] is not None else "",
            places[str(record["gold"])],
            sha256(str(record["id"]).encode()),
            len(labels) if record["predicted"] is None else places[str(record["predicted"])],
        )
        for record in records
    )
    names = {name: number for number, name in enumerate(dict.fromkeys(group for group, *_ in rows))}
    lines = "\n".join(json.dumps([group, labels[gold], row]) for group, gold, row, _ in rows)
    return Outcomes(
        sha256(lines.encode()),
        len(labels),
        np.array([gold for _, gold, _, _ in rows], dtype=np.int64),
        np.array([predicted for *_, predicted in rows], dtype=np.int64),
        np.array([names[group] for group, *_ in rows], dtype=np.int64) if has_groups else None,
        np.array([int(row[:8], 16) for _, _, row, _ in rows], dtype=np.int64) if with_rows else None,
    )


def read(document: dict[str, Any]) -> Outcomes:
    """Return the outcomes of a JSON document.

    Raises:
        ValueError: the document is no such file, or of another version.
    """
    if document.get("schema") != SCHEMA:
        raise ValueError(f"its schema is {document.get('schema')}; this version reads {SCHEMA}")
    try:
        classes = int(document["classes"])
        counts = _unpacked(document["counts"]).reshape(-1, classes)  # (G, C)
        predicted = _unpacked(document["predicted"])
        cells = np.arange(counts.size).repeat(counts.ravel())
        groups = cells // classes if document["has_groups"] else None
        rows = _unpacked(document["rows"]) if "rows" in document else None
        found = Outcomes(str(document["rows_sha256"]), classes, cells % classes, predicted, groups, rows)
    except (KeyError, TypeError, zlib.error) as error:
        raise ValueError(f"it is damaged: {error}") from error
    lengths = {len(array) for array in (found.predicted, found.rows) if array is not None}
    if lengths != {len(found.gold)} or (found.predicted > classes).any():
        raise ValueError("it is damaged: it does not have one prediction per row")
    return found


def _packed(numbers: np.ndarray) -> str:
    """Return whole numbers from 0 as text: two bytes or four of each, compressed, in base 64."""
    wide = numbers.size and numbers.max() >= 2**16
    # All low bytes first: the high ones are mostly 0 and compress to nothing.
    planes = numbers.astype("<u4" if wide else "<u2").ravel().view(np.uint8).reshape(-1, 4 if wide else 2).T
    return f"{len(planes)}:{base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()}"


def _unpacked(text: str) -> np.ndarray:
    width, _, body = text.partition(":")
    planes = np.frombuffer(zlib.decompress(base64.b64decode(body)), np.uint8).reshape(int(width), -1)
    return planes.T.copy().view(f"<u{width}").ravel().astype(np.int64)
