"""The life of a run in its process: a failure is recorded, a time limit puts the job back into the queue."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from common.core.errors import DiskFull, Interrupted, PeftableError, Superseded, TimeLimit
from common.core.files import check_fences, remove, utc_now, write_json
from common.runs import requeue, run_lock
from common.runs.run_config import SCHEMA, RunConfig
from common.runs.run_folder import FAILURE, is_finished, load_run_config


@contextlib.contextmanager
def recorded_failure(path: Path, command: str) -> Iterator[None]:
    """Write `failure.json` when the body fails, with the command that continues; remove an older one at the start.

    Where the time limit is near, the Slurm job is put back into the queue first, and the file says how that went.
    """
    try:
        remove(path / FAILURE)
        yield
    except BaseException as error:
        told = _settled(path, error, command)
        if path.exists() and not isinstance(told, Superseded):
            document = {
                "schema": SCHEMA,
                "error": ": ".join(part for part in (type(told).__name__, str(told)) if part),
                "interrupted": isinstance(told, Interrupted | KeyboardInterrupt),
                "expected": isinstance(told, PeftableError),
                "continue_with": command,
                "time": utc_now(),
            }
            with contextlib.suppress(DiskFull):  # what went wrong matters more
                write_json(path / FAILURE, document)
        if told is error:
            raise
        raise told from None


def _settled(path: Path, error: BaseException, command: str) -> BaseException:
    """Return what a failure amounts to: that of a superseded start is no failure, and a time limit may be helped."""
    if isinstance(error, Superseded):
        return error
    try:
        check_fences(path)
    except Superseded as superseded:
        return superseded
    return requeue.settle(error, command) if isinstance(error, TimeLimit) else error


def resume_run(path: Path, command: str, work: Callable[[Path, RunConfig], None]) -> None:
    """Have `work` carry a run to its end as its one writer, unless it is finished.

    Nobody may be watching: whatever stops it, also before training, is left in `failure.json`.

    Args:
        path: the run folder.
        command: what continues it.
        work: takes folder and frozen config.
    """
    config = load_run_config(path)
    if is_finished(path):
        return
    with run_lock.acquire(path), recorded_failure(path, command):
        if not is_finished(path):  # by another start, since
            work(path, config)
