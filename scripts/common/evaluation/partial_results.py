"""Save partial inference results so that an interrupted evaluation resumes.

Rows, model and batches are those of the run's recorded config. A later attempt continues with the first batch that has
no results, and its scores equal those of an uninterrupted run.
"""

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from common.core import files
from common.runs import requeue

_SCHEMA = 1
_SAVE_EVERY_S = 60.0


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
        known: dict[str, Any] = {"batches": [], "seconds": 0.0}
        if self.file.exists():
            known = files.read_json(self.file)
        self.batches: list[tuple[Sequence[int], Sequence[Any]]] = [
            (indices, results) for indices, results in known["batches"]
        ]
        self._before, self._saved = known["seconds"], len(self.batches)
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
