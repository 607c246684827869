"""Show progress, rate and time left: as a bar on a terminal, as lines in a log file, and in a run's progress.json.

`make status` reads `progress.json`, also on another machine.
"""

import contextlib
import re
import sys
import time
from pathlib import Path
from typing import TypedDict

from tqdm import tqdm

from common.core import signals
from common.core.errors import DiskFull, NotWritable
from common.core.files import utc_now, write_json
from common.core.formatting import duration

PROGRESS = "progress.json"
_LINE_EVERY_S, _FIRST_LINE_S = 10.0, 3.0
_FILE_EVERY_S = 5.0
_SCHEMA = 1


def is_progress_line(line: str) -> bool:
    """Return whether a line of a log is one of those that `Progress` prints."""
    return bool(re.match(r".+: \d+/\d+ \w+s, [\d.]+ \w+s/s, .+ left", line))


class ProgressDocument(TypedDict, total=False):
    """Content of progress.json; {} where a run has done nothing countable yet. Unknown values are None."""

    schema: int
    what: str
    done: int
    total: int | None
    unit: str
    per_s: float | None
    examples_per_s: float | None
    note: str
    loss: float | None
    time: str


class Progress:
    """Count units of work towards a total.

    Args:
        what: name of the work: "train", "score test", ….
        total: number of units.
        unit: "step", "row", ….
        done: units finished before a resumed run began; the rate does not count them.
        folder: the run folder in which `progress.json` is written; None: no file.
        examples: number of examples per unit.
    """

    def __init__(
        self, what: str, total: int, unit: str, done: int = 0, folder: Path | None = None, examples: int = 1
    ) -> None:
        self.what, self.total, self.unit, self.done, self.folder = what, total, unit, done, folder
        self.examples = examples
        self._start = time.monotonic()
        self._last_line = self._start - _LINE_EVERY_S + _FIRST_LINE_S
        self._last_file = self._start - _FILE_EVERY_S  # so that the first unit is written
        self._before = done
        self._note = ""
        self._loss: float | None = None
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(desc=what, total=total, unit=unit, initial=done, dynamic_ncols=True, leave=False)

    @property
    def rate(self) -> float:
        """Return units per second since the start, 0 before the first unit."""
        return (self.done - self._before) / max(time.monotonic() - self._start, 1e-9)

    def update(self, count: int, note: str = "", loss: float | None = None) -> None:
        """Add `count` finished units; `note` is shown after the rate, `loss` is written to the file.

        Raises:
            KeyboardInterrupt, TimeLimit: a signal came (`signals.check`).
        """
        self._add(count, note, loss)
        signals.check()

    def _add(self, count: int, note: str, loss: float | None) -> None:
        self.done += count
        self._note, self._loss = note, loss
        if time.monotonic() - self._last_file >= _FILE_EVERY_S:
            self._write()
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
            return
        now = time.monotonic()
        if now - self._last_line >= _LINE_EVERY_S:
            self._last_line = now
            rate = self.rate
            left = duration((self.total - self.done) / rate) if rate > 0 else "unknown"
            share = f"{self.done}/{self.total} {self.unit}s"
            print(
                f"{self.what}: {share}, {rate:.1f} {self.unit}s/s, {left} left{', ' + note if note else ''}", flush=True
            )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Write the file a last time and remove the bar."""
        self._write()
        if self._bar is not None:
            self._bar.close()

    def _write(self) -> None:
        if self.folder is None:
            return
        self._last_file = time.monotonic()
        document = ProgressDocument(
            schema=_SCHEMA,
            what=self.what,
            done=self.done,
            total=self.total,
            unit=self.unit,
            per_s=round(self.rate, 4) or None,
            examples_per_s=round(self.rate * self.examples, 4) or None,
            note=self._note,
            loss=self._loss,
            time=utc_now(),
        )
        # No result depends on this file: it need not be flushed to disk, and a failed write is ignored.
        with contextlib.suppress(OSError, DiskFull, NotWritable):
            write_json(self.folder / PROGRESS, document, durable=False)
