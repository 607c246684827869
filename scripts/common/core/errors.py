"""Errors whose message is written for the user: one class per kind of problem, each with its exit code.

A message says what was found, what is allowed, in which file, and which command fixes it. `cli.main` prints it to
stderr and exits with the code. Any other exception is a bug and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class PeftableError(Exception):
    """Base of all errors whose message is meant for the user."""

    exit_code = 1


class ConfigError(PeftableError):
    """A job, a dataset YAML file or an override is wrong."""

    exit_code = 2


class DataError(PeftableError):
    """The rows do not match the dataset YAML file."""

    exit_code = 3


class ModelError(PeftableError):
    """A model, tokenizer or adapter cannot be loaded or does not fit."""

    exit_code = 4


class RunError(PeftableError):
    """A run folder is missing, changed, unfinished or in use."""

    exit_code = 5


class DiskFull(RunError):
    """A file could not be written because no space is left; files written before are complete."""


class NotWritable(RunError):
    """A file or folder could not be changed: its file system is read-only, or the user has no permission."""


class ReportError(PeftableError):
    """The tables of the README cannot be written, or differ from the published metrics."""

    exit_code = 6


def out_of_memory(doing: str) -> ModelError:
    """Return the error for work that does not fit; `doing` is text such as "scoring one row with 512 tokens"."""
    return ModelError(
        f"out of memory in {doing}. Lower max_length, set quantization=nf4 and, for training, "
        "runtime.activation_checkpointing=true, or use a card with more memory. make check estimates what a job needs."
    )


def for_user(error: BaseException) -> BaseException:
    """Return the `ModelError` for a GPU whose memory was full, in any work; every other error as it is.

    torch's class is known by its name, because torch is not imported here.
    """
    return out_of_memory("this work") if type(error).__name__ == "OutOfMemoryError" else error


# Parts of the messages that Slurm's commands print when the controller does not answer.
_NO_ANSWER = (
    *("Unable to contact slurm controller", "Socket timed out", "has not answered", "Zero Bytes were transmitted"),
    *("Connection refused", "Connection reset", "ommunication connection failure", "standby mode"),
)


class SlurmError(PeftableError):
    """Slurm does not answer, or rejects a request.

    Attributes:
        is_absent: whether Slurm is not installed on this machine.
    """

    exit_code = 7

    def __init__(self, message: str, is_absent: bool = False) -> None:
        super().__init__(message)
        self.is_absent = is_absent

    @property
    def is_silent(self) -> bool:
        """Return whether Slurm gave no answer, so that the request may have succeeded; False for a rejection."""
        return any(words in str(self) for words in _NO_ANSWER)


class Interrupted(PeftableError):
    """SIGTERM or SIGINT arrived; a checkpoint is saved, and the same command resumes from it."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again


class Superseded(PeftableError):
    """A newer start of the same run has taken over the run folder; this process must not write to it any more."""

    exit_code = 76


class TimeLimit(KeyboardInterrupt):
    """SIGUSR2 arrived: the time limit of a Slurm job is near. `requeue.requeue_job` then decides about the job.

    Not an `Exception`, so that no library catches it as an error of its own.
    """


def nearest(name: object, allowed: Iterable[object]) -> str:
    """Return " Did you mean 'x'?" for the allowed name that is most like `name`, "" when none is similar."""
    close = difflib.get_close_matches(str(name), [str(item) for item in allowed], n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def choices(allowed: Iterable[object], limit: int = 12) -> str:
    """Return the allowed values as "a, b, c"; after `limit` values, the total number follows."""
    names = [str(item) for item in allowed]
    more = f", … ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
