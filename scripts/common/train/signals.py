"""Signals that stop a run: a flag at once, a checkpoint at the next step."""

import os
import signal
import threading
from types import FrameType
from typing import Any

from common.core.errors import Interrupted, TimeLimit
from common.core.progress import Progress

_TIME_LIMIT = signal.SIGUSR2.name


class StopSignal:
    """Remembers SIGTERM, SIGINT and SIGUSR2, so that training stops at the next step boundary, after a checkpoint.

    SIGUSR2 says that the time limit of a Slurm job is near; one of the others, whenever it comes, outweighs it: a job
    that was cancelled is not to go back into the queue. Processes forked from this one inherit the handler, which
    does nothing there.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._pid = os.getpid()
        self._old: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            self._old[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._pid and self.name in (None, _TIME_LIMIT):
            self.name = signal.Signals(number).name

    def error(self, when: str) -> BaseException:
        """Return what to leave training with after the checkpoint; `when` is "at step 3 of 9"."""
        if self.name == _TIME_LIMIT:
            return TimeLimit(f"{self.name}, the time limit is near, {when}; the checkpoint is saved")
        return Interrupted(f"{self.name} {when}; the checkpoint is saved, and the same command continues.")


class Stopped(Exception):
    """A signal ended the work that a `Stoppable` counts."""


class Stoppable(Progress):
    """Progress of work that a signal ends between two of its parts."""

    def __init__(self, stop: StopSignal, what: str, total: int, unit: str) -> None:
        super().__init__(what, total, unit)
        self.stop = stop

    def update(self, count: int, note: str = "", loss: float | None = None) -> None:
        """Add `count` units.

        Raises:
            Stopped: a signal came, and there is work left.
        """
        super().update(count, note, loss)
        if self.stop.name and self.done < self.total:
            raise Stopped


def leave_signals_to_parent(worker: int = 0) -> None:
    """Make a DataLoader's worker live through the signals that Slurm or a terminal sends to all our processes.

    A worker that SIGTERM ends makes the main process fail before its checkpoint. Only the parent's own SIGTERM, with
    which it ends a worker that does not end by itself, is obeyed.
    """
    for number in (signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGTERM}
    )  # for the thread that waits for it, which sees the sender
    parent = os.getppid()

    def obey() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            pass
        os._exit(0)

    threading.Thread(target=obey, daemon=True).start()
