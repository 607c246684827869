"""Lock files, so that one process at a time does something; a process that waits long tells its user so.

The locks are those of flock(2): the kernel releases them when the process ends, in whatever way. They exclude processes
on other machines, too, where the shared file system supports flock. (The library filelock uses flock as well, but slows
down the start of `make status`, and uses marker files, which outlive their process, where flock is not supported.)
"""

import contextlib
import fcntl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from common.core import signals
from common.core.errors import RunError
from common.core.files import write_errors

MESSAGE_AFTER_S = 3.0  # of waiting


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Wait for the exclusive lock on the file `path` and hold it while the context lasts.

    Raises:
        NotWritable: the user may not write to the folder.
        RunError: its file system does not support locks.
    """
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("w")
    with stream:
        _wait_for(stream, path)
        yield


def _wait_for(stream: IO[str], path: Path) -> None:
    start, has_told = time.monotonic(), False
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not has_told and time.monotonic() - start > MESSAGE_AFTER_S:
                print(f"waiting for another command, which holds {path}", file=sys.stderr, flush=True)
                has_told = True
            signals.check()
            time.sleep(0.02)
        except OSError as error:
            raise RunError(f"{path}: this file system does not support locks ({error.strerror}).") from error
        else:
            return


@contextlib.contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold the exclusive lock on the file `path` if it is free; yields whether this process holds it."""
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("w")
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
