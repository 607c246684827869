"""Signals that stop a command: the handler sets a flag, and the command looks at it between two pieces of its work.

An exception raised by a handler appears in whatever Python is doing; Python drops one that appears in a destructor or
in a callback, and the signal would be lost. Therefore SIGTERM, SIGINT (Ctrl-C) and SIGUSR2 are remembered only, and
`check` raises. Where nothing has called `check` for some seconds (a library loads, downloads or fits), an alarm raises
the same exception there, again and again until it is heard.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

from common.core.errors import TimeLimit

TIME_LIMIT = signal.SIGUSR2.name  # Slurm sends it before the time limit of a job
SIGNALLED = "PEFTABLE_SIGNALLED"  # variable of a job: a signal that came before its command began
_NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
ALARM_AFTER_S = 2.0  # without a look at the flag
_ALARM_AGAIN_S = 10.0
_STEP_S = 0.1  # between two looks while this process waits


class _Flag:
    """The signal that came, and what was done about it."""

    def __init__(self) -> None:
        self.pid = os.getpid()  # forked processes inherit the handlers, which do nothing in them
        self.name: str | None = None
        self.is_kept = False  # before, while a script imports its modules, nothing raises
        self.is_raised = False
        self.is_deferred = False

    @property
    def may_raise(self) -> bool:
        """Whether a signal raises, and has not done so."""
        return self.is_kept and not self.is_raised and not self.is_deferred


_flag = _Flag()


def keep() -> None:
    """Remember SIGTERM, SIGINT and SIGUSR2 from now on."""
    global _flag
    if _flag.pid != os.getpid():
        _flag = _Flag()
    for number in _NUMBERS:
        signal.signal(number, _remember)
    signal.signal(signal.SIGALRM, _raise_late)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _NUMBERS)  # `start` blocks them
    if os.environ.pop(SIGNALLED, None):
        _remember(signal.SIGUSR2, None)


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Remember the signals while the outermost of these contexts lasts; then the handlers are those of before.

    Where `keep` was called before, the process is about to end: then a signal ends it, but a time limit no longer does.
    """
    global _flag
    if _flag.is_kept and _flag.pid == os.getpid():
        yield
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in (*_NUMBERS, signal.SIGALRM)}
    keep()
    _flag.is_kept = True
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _flag = _Flag()
        for number, handler in before.items():
            if handler in (_remember, _raise_late):
                handler = signal.SIG_IGN if number == signal.SIGUSR2 else signal.SIG_DFL
            if handler is not None:  # as of one that Python did not set
                signal.signal(number, handler)


def name() -> str | None:
    """Return the name of the signal that came, such as "SIGTERM", None where none came.

    SIGTERM and SIGINT replace an earlier SIGUSR2, because a cancelled job must not go back into the queue.
    """
    return _flag.name if _flag.pid == os.getpid() else None


def check() -> None:
    """Raise when a signal came that has not been acted on. Call it between two pieces of work.

    Raises:
        TimeLimit: SIGUSR2 came.
        KeyboardInterrupt: SIGTERM or SIGINT came.
    """
    if name() is not None and _flag.may_raise and threading.current_thread() is threading.main_thread():
        set_raised()
        raise _error()


def set_raised() -> None:
    """Note that the signal is acted on: nothing raises for it again."""
    _flag.is_raised = True
    signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """While the context lasts, neither `check` nor an alarm raises: the caller looks at `name` itself, and soon."""
    before, _flag.is_deferred = _flag.is_deferred, True
    try:
        yield
    finally:
        _flag.is_deferred = before
        if name() is not None and _flag.may_raise:
            signal.setitimer(signal.ITIMER_REAL, ALARM_AFTER_S, _ALARM_AGAIN_S)


def sleep(seconds: float) -> None:
    """Sleep; raises as `check` when a signal comes."""
    end = time.monotonic() + seconds
    check()
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, _STEP_S))
        check()


def start(command: Sequence[str], environment: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """Start a script of ours. A signal that comes before it calls `keep` waits for that.

    Args:
        command: argv.
        environment: its variables; None is those of this process.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _NUMBERS)  # inherited, as signals that wait are
    try:
        return subprocess.Popen(command, env=environment)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def wait(process: "subprocess.Popen[Any]") -> int:
    """Wait for a process and return its exit code; raises as `check` when a signal comes to this process."""
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(_STEP_S)
        check()


def _error() -> BaseException:
    if _flag.name == TIME_LIMIT:
        return TimeLimit(f"{TIME_LIMIT}: the time limit is near")
    return KeyboardInterrupt(_flag.name)


def _remember(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _flag.pid or _flag.name not in (None, TIME_LIMIT):
        return
    _flag.name = signal.Signals(number).name
    if _flag.may_raise:
        signal.setitimer(signal.ITIMER_REAL, ALARM_AFTER_S, _ALARM_AGAIN_S)


def _raise_late(number: int, frame: FrameType | None) -> None:
    # Not set_raised: Python drops what appears in a destructor, and then the next alarm raises.
    if name() is not None and _flag.may_raise:
        raise _error()
