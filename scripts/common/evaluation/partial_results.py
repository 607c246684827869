"""Save partial inference results so that an interrupted evaluation resumes.

Rows, model and batches are those of the run's recorded config. A later attempt continues with the first batch that has
no results, and on a CPU its scores equal those of an uninterrupted run.
"""

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict

from common.core import files
from common.core.documents import is_of, read_fields
from common.runs import requeue

_SCHEMA = 1
_SAVE_EVERY_S = 60.0


class _Document(TypedDict, total=False):
    """Content of the file: pairs of row indices and their results, and the seconds that they took."""

    batches: list[list[Any]]
    seconds: float


def _is_whole(batch: list[Any]) -> bool:
    """Return whether a pair is row indices and as many results."""
    return len(batch) == 2 and is_of(batch, list[list[Any]]) and len(batch[0]) == len(batch[1]) > 0


class PartialResults:
    """The results of finished batches, saved every minute and when the context ends, also by an exception.

    Args:
        folder: the run folder.
        what: the work, such as "score test" or "generate test"; it names the file.

    Attributes:
        batches: pairs of row indices and their results, in order.
    """

    def __init__(self, folder: Path, what: str) -> None:
        self.what, self.file = what, folder / f".{what.replace(' ', '-')}.json"
        document = read_fields(self.file, _Document)
        known = document.get("batches", [])
        if self.file.exists() and not (known and all(map(_is_whole, known))):
            print(f"{self.file} is damaged: the rows are scored again", flush=True)
            known = []
        self.batches: list[tuple[Sequence[int], Sequence[Any]]] = [(indices, results) for indices, results in known]
        self._before, self._saved = document.get("seconds", 0.0) if known else 0.0, len(self.batches)
        self._start = self._last = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall-clock seconds spent on this work, over all attempts."""
        return float(self._before + time.monotonic() - self._start)

    @property
    def rows(self) -> int:
        """Number of rows that have a result."""
        return sum(len(indices) for indices, _ in self.batches)

    def remaining(self, batches: Sequence[Sequence[int]]) -> Iterator[Sequence[int]]:
        """Yield the batches that have no results yet.

        Results of other batches than these are forgotten: an attempt on another device, or by another version of the
        code, divides the rows in another way.
        """
        pairs = zip(self.batches, batches, strict=False)
        same = itertools.takewhile(lambda pair: list(pair[0][0]) == list(pair[1]), pairs)
        self.batches = [known for known, _ in same]
        yield from batches[len(self.batches) :]

    def add(self, indices: Sequence[int], results: Sequence[Any]) -> None:
        """Append the results of the next batch; they must be JSON values."""
        self.batches.append((indices, results))
        if time.monotonic() - self._last >= _SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """Write the results to disk, and record this progress for the decision to requeue the Slurm job."""
        self._last = time.monotonic()
        if len(self.batches) > self._saved:
            document = {"schema": _SCHEMA, "seconds": self.seconds, "batches": self.batches}
            files.write_text(self.file, json.dumps(document, allow_nan=False))
            self._saved = len(self.batches)
        if self.batches:
            requeue.note_saved(self.what, self.rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.save()


def remove(folder: Path) -> None:
    """Remove the partial results of a finished run."""
    for file in [*folder.glob(".score-*.json"), *folder.glob(".generate-*.json")]:
        file.unlink(missing_ok=True)
