"""Do a run's work under its lock, record a failure in `failure.json`, and requeue the job at a time limit."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from common.core import signals
from common.core.errors import DiskFull, Interrupted, NotWritable, PeftableError, Superseded, TimeLimit, for_user
from common.core.files import check_fences, remove, utc_now, write_json
from common.runs import requeue, run_lock
from common.runs.documents import Failure
from common.runs.run_config import SCHEMA, RunConfig
from common.runs.run_folder import FAILURE, is_finished, load_run_config


@contextlib.contextmanager
def recorded_failure(path: Path, command: str) -> Iterator[None]:
    """Write `failure.json` when the body fails, with the command that resumes the run; remove an older file first.

    When the time limit stopped the body, the Slurm job is requeued before that, and the file says whether it was.
    """
    try:
        remove(path / FAILURE)
        yield
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            signals.set_raised()  # an alarm must not interrupt what follows
        final = _final_error(path, error, command)
        if path.exists() and not isinstance(final, Superseded):
            failure = Failure(
                schema=SCHEMA,
                error=": ".join(part for part in (type(final).__name__, str(final)) if part),
                interrupted=isinstance(final, Interrupted | KeyboardInterrupt),
                expected=isinstance(final, PeftableError),
                continue_with=command,
                time=utc_now(),
            )
            with contextlib.suppress(DiskFull, NotWritable):  # the first error matters more
                write_json(path / FAILURE, failure)
        if final is error:
            raise
        raise final from None


def _final_error(path: Path, error: BaseException, command: str) -> BaseException:
    """Return the error to end with: `Superseded` under a newer holder, at a time limit that of `requeue_job`."""
    if isinstance(error, Superseded):
        return error
    try:
        check_fences(path)
    except Superseded as superseded:
        return superseded
    return requeue.requeue_job(error, command) if isinstance(error, TimeLimit) else for_user(error)


def resume_run(path: Path, command: str, work: Callable[[Path, RunConfig], None]) -> None:
    """Call `work` under the run lock, unless the run is finished.

    Every error, also one before training begins, is recorded in `failure.json`: in a job nobody reads the terminal.

    Args:
        path: the run folder.
        command: resumes the run.
        work: takes the folder and the run's recorded config.
    """
    config = load_run_config(path)
    if is_finished(path):
        return
    with run_lock.acquire(path), recorded_failure(path, command):
        if not is_finished(path):  # another start may have finished it while this one waited
            work(path, config)
