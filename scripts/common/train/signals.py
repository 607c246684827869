"""Signals that stop a run: the handler sets a flag, and training saves a checkpoint at the next step."""

import os
import signal
import threading
from types import FrameType
from typing import Any

from common.core.errors import Interrupted, TimeLimit
from common.core.progress import Progress

_TIME_LIMIT = signal.SIGUSR2.name


class StopSignal:
    """Remember SIGTERM, SIGINT and SIGUSR2, so that training stops after the next step, with a checkpoint.

    SIGUSR2 means that the time limit of a Slurm job is near. SIGTERM and SIGINT replace an earlier SIGUSR2, because a
    cancelled job must not go back into the queue. Forked processes inherit the handler, which does nothing in them.
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
        """Return the exception to raise after the checkpoint; `when` is text such as "at step 3 of 9"."""
        if self.name == _TIME_LIMIT:
            return TimeLimit(f"{self.name}, the time limit is near, {when}; the checkpoint is saved")
        return Interrupted(f"{self.name} {when}; the checkpoint is saved, and the same command continues.")


class Stopped(Exception):
    """A signal ended the work whose progress a `Stoppable` shows."""


class Stoppable(Progress):
    """Progress of work that stops after a signal, between two batches."""

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
    """Make a DataLoader's worker ignore the signals that Slurm or a terminal sends to all processes of a job.

    If SIGTERM ended a worker, the main process would fail before its checkpoint. A worker obeys SIGTERM only from its
    parent, which ends workers that way.
    """
    for number in (signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    # Blocked, so that the thread below receives it together with its sender.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    parent = os.getppid()

    def obey() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            pass
        os._exit(0)

    threading.Thread(target=obey, daemon=True).start()
