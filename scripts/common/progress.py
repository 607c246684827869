"""How far, how fast, how long still: a bar on a terminal, plain lines with rate and time left in a log file."""

import sys
import time

from tqdm import tqdm

from common.stats import duration

_LINE_EVERY_S = 10.0


class Progress:
    """Count units of work towards a total.

    Args:
        what: "train", "score test", ….
        total: units in all.
        unit: "step", "row", ….
        done: units done before, when a run is resumed; they do not count for the rate.
    """

    def __init__(self, what: str, total: int, unit: str, done: int = 0) -> None:
        self.what, self.total, self.unit, self.done = what, total, unit, done
        self._start = self._last_line = time.monotonic()
        self._before = done
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(desc=what, total=total, unit=unit, initial=done, dynamic_ncols=True, leave=False)

    @property
    def rate(self) -> float:
        """Units per second since the start, 0 before the first."""
        return (self.done - self._before) / max(time.monotonic() - self._start, 1e-9)

    def update(self, count: int, note: str = "") -> None:
        """Add `count` units; `note` is shown beside the rate."""
        self.done += count
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

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
