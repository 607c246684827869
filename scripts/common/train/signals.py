"""Stop training after a signal: at the next step, or between two batches of an evaluation, with a checkpoint."""

import contextlib
import os
import signal
import threading

from common.core import signals
from common.core.errors import Interrupted, TimeLimit
from common.core.progress import Progress


class StopSignal:
    """While the context lasts, a signal raises nothing: training looks at `name` after each step and saves first."""

    def __init__(self) -> None:
        self._context = contextlib.ExitStack()

    def __enter__(self) -> "StopSignal":
        self._context.enter_context(signals.kept())
        self._context.enter_context(signals.deferred())
        return self

    def __exit__(self, *error: object) -> None:
        self._context.close()

    @property
    def name(self) -> str | None:
        """The signal that came, None where none came."""
        return signals.name()

    def error(self, when: str) -> BaseException:
        """Return the exception to raise after the checkpoint; `when` is text such as "at step 3 of 9"."""
        signals.set_raised()
        if self.name == signals.TIME_LIMIT:
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
