"""What a run has scored of a split, kept on disk: a time limit or a lost node costs a minute of it, not all.

The rows, the model and the cut into batches are those of the frozen config, so a later start goes on with the batch
after the last that is here, and ends with the numbers of a run that was not stopped.
"""

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
    """The results of finished batches; saved every minute, and when the context ends, however it ends.

    Args:
        folder: of the run.
        what: "score test", "generate test".

    Attributes:
        batches: (indices of rows, a result for each), in order.
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
        """Of all starts together."""
        return float(self._before + time.monotonic() - self._start)

    @property
    def rows(self) -> int:
        """How many rows have a result."""
        return sum(len(indices) for indices, _ in self.batches)

    def left(self, batches: Sequence[Sequence[int]]) -> Iterator[Sequence[int]]:
        """Yield the batches that have no results yet."""
        yield from batches[len(self.batches) :]

    def add(self, indices: Sequence[int], results: Sequence[Any]) -> None:
        """Add the results of the next batch, which JSON can hold."""
        self.batches.append((indices, results))
        if time.monotonic() - self._last >= _SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """Write down what there is, and tell a job near its time limit that going on is of use."""
        self._last = time.monotonic()
        if len(self.batches) > self._saved:
            document = {"schema": _SCHEMA, "seconds": self.seconds, "batches": self.batches}
            files.write_text(self.file, json.dumps(document, allow_nan=False))
            self._saved = len(self.batches)
        if self.batches:
            requeue.lasting(self.what, self.rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.save()


def remove(folder: Path) -> None:
    """Remove what was kept of a run that is over."""
    for file in [*folder.glob(".score-*.json"), *folder.glob(".generate-*.json")]:
        file.unlink(missing_ok=True)
