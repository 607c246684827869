"""Errors a person can act on: one class per outcome, each with its exit code.

A message says what was found, what is allowed, in which file, and which command mends it. `guard` turns
these errors into one message on stderr and an exit code; everything else keeps its traceback, being a bug.
"""

import contextlib
import difflib
import io
import signal
import sys
from collections.abc import Callable, Iterable
from types import FrameType


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


class ReportError(PeftableError):
    """The README's tables cannot be written, or differ from the published metrics."""

    exit_code = 6


class Interrupted(PeftableError):
    """SIGTERM or SIGINT arrived; a checkpoint is saved and the same command continues."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again


def nearest(name: object, allowed: Iterable[object]) -> str:
    """Return " Did you mean 'x'?" for the allowed name closest to `name`, or "" when none is close."""
    close = difflib.get_close_matches(str(name), [str(item) for item in allowed], n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def choices(allowed: Iterable[object], limit: int = 12) -> str:
    """Return the allowed values as "a, b, c", shortened after `limit` values."""
    names = [str(item) for item in allowed]
    more = f", … ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def guard(main: Callable[[list[str] | None], int | None], argv: list[str] | None = None) -> int:
    """Run a script's `main(argv)`, turning user errors into one message on stderr.

    Args:
        main: returns an exit code, or None for success.
        argv: arguments without the program's name; None takes `sys.argv[1:]`.

    Returns:
        The process's exit code: 0, or the code of the error's class.
    """
    # Texts hold any character; a log file under LANG=C must not turn one into a UnicodeEncodeError.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError):
                stream.reconfigure(encoding="utf-8", errors="replace")
    # Outside training, where a step boundary is waited for, SIGTERM ends the command as Ctrl-C does.
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return main(argv) or 0
    except PeftableError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted; nothing is half-written, and the same command continues.", file=sys.stderr)
        return Interrupted.exit_code
    except BrokenPipeError:
        # `make status | head` closes our stdout; that is no failure of ours.
        sys.stderr.close()
        return 128 + signal.SIGPIPE  # what a shell reports of a process that SIGPIPE ended
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
