"""Errors a person can act on: one class per outcome, each with its exit code.

A message says what was found, what is allowed, in which file, and which command mends it. `entry.guard` turns
these errors into one message on stderr and an exit code; everything else keeps its traceback, being a bug.
"""

import difflib
from collections.abc import Iterable


class PeftableError(Exception):
    """Base of all errors whose message is meant for the user."""

    exit_code = 1


class ConfigError(PeftableError):
    """A job, a dataset YAML or an override is wrong."""

    exit_code = 2


class DataError(PeftableError):
    """The rows are not what the dataset YAML says."""

    exit_code = 3


class ModelError(PeftableError):
    """A model, tokenizer or adapter cannot be loaded or does not fit."""

    exit_code = 4


class RunError(PeftableError):
    """A run folder is missing, changed, unfinished or in use."""

    exit_code = 5


class DiskFull(RunError):
    """A file could not be written for want of space; what was written before is whole."""


class ReportError(PeftableError):
    """The README's tables cannot be written, or differ from the published metrics."""

    exit_code = 6


class SlurmError(PeftableError):
    """Slurm does not answer, or refuses a job."""

    exit_code = 7

    def __init__(self, message: str, is_absent: bool = False) -> None:
        super().__init__(message)
        self.is_absent = is_absent  # there is no Slurm here at all

    @property
    def is_silent(self) -> bool:
        """Whether Slurm has not answered, rather than said no."""
        said = (
            *(
                "Unable to contact slurm controller",
                "Socket timed out",
                "has not answered",
                "Zero Bytes were transmitted",
            ),
            *("Connection refused", "Connection reset", "ommunication connection failure", "standby mode"),
        )
        return any(words in str(self) for words in said)


class Interrupted(PeftableError):
    """SIGTERM or SIGINT arrived; a checkpoint is saved and the same command continues."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again


class Superseded(PeftableError):
    """A newer start of the same run has taken over while this one still lived; this one writes nothing more."""

    exit_code = 76


class TimeLimit(KeyboardInterrupt):
    """SIGUSR2 arrived: the time limit of a Slurm job is near. `requeue.requeue_job` then decides about the job.

    No `Exception`, so that no library takes it for an error of its own.
    """


def nearest(name: object, allowed: Iterable[object]) -> str:
    """Return " Did you mean 'x'?" for the allowed name closest to `name`, or "" when none is close."""
    close = difflib.get_close_matches(str(name), [str(item) for item in allowed], n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def choices(allowed: Iterable[object], limit: int = 12) -> str:
    """Return the allowed values as "a, b, c", shortened after `limit` values."""
    names = [str(item) for item in allowed]
    more = f", … ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
