"""Locks of files: one process at a time, and a word to a person who waits for another one."""

import contextlib
import fcntl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from common.core.errors import RunError
from common.core.files import disk_full_errors

_WORTH_SAYING_S = 3.0  # of waiting for a lock


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold an exclusive advisory lock on `path`, waiting for it; the kernel frees it when we die.

    Raises:
        RunError: the folder is somebody else's, or its file system knows no locks.
    """
    try:
        with disk_full_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = path.open("w")
    except PermissionError as error:
        raise RunError(f"{path.parent}: nothing may be written here ({error.strerror}).") from error
    with stream:
        _wait_for(stream, path)
        yield


def _wait_for(stream: IO[str], path: Path) -> None:
    begun, is_said = time.monotonic(), False
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not is_said and time.monotonic() - begun > _WORTH_SAYING_S:
                print(f"waiting for another command, which holds {path}", file=sys.stderr, flush=True)
                is_said = True
            time.sleep(0.02)
        except OSError as error:
            raise RunError(f"{path}: this file system knows no locks ({error.strerror}).") from error
        else:
            return


@contextlib.contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold an exclusive advisory lock on `path` if nobody else does; yields whether it is held."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
