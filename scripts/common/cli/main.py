"""How a script begins and ends: signals, and errors as one message with an exit code.

if __name__ == "__main__":
    sys.exit(guard(main))
"""

import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Callable

from common.core import signals
from common.core.errors import Interrupted, PeftableError, RunError, TimeLimit, for_user
from common.core.files import NO_SPACE, READ_ONLY
from common.core.formatting import printable, shortened
from common.runs import requeue

_MESSAGE_CHARACTERS = 20_000  # a message that quotes a file may be very long
# What a user can change, where no other message has said it.
_USERS = (*READ_ONLY, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ESTALE)


def prepare_libraries() -> None:
    """Set the variables that torch reads when it is imported; what a user has set stays."""
    # torch.compile is not used; bitsandbytes would import its compiler, a fifth of the time that a start takes.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    # A GPU's memory in segments that grow: batches of many sizes leave less of it unusable.
    older = os.environ.get("PYTORCH_CUDA_ALLOC_CONF")  # the variable's older name
    os.environ.setdefault("PYTORCH_ALLOC_CONF", older or "expandable_segments:True")


def guard(main: Callable[[list[str] | None], int | None], argv: list[str] | None = None) -> int:
    """Run a script's `main(argv)`, turning user errors into one message on stderr.

    Everything that is no user error keeps its traceback, being a bug.

    Args:
        main: returns an exit code, or None for success.
        argv: arguments without the program's name; None takes `sys.argv[1:]`.

    Returns:
        The process's exit code: 0, or the code of the error's class.
    """
    prepare_libraries()
    # Texts hold any character; a log file under LANG=C must not turn one into a UnicodeEncodeError.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError):
                stream.reconfigure(encoding="utf-8", errors="replace")
    with signals.kept():
        return _run(main, argv)


def _run(main: Callable[[list[str] | None], int | None], argv: list[str] | None) -> int:
    """Run `main(argv)`; a signal ends it as Ctrl-C does, or at a step of its own in training."""
    try:
        try:
            signals.check()  # one that came while the script's modules were imported
            return main(argv) or 0
        except TimeLimit as limit:
            raise requeue.requeue_job(limit) from None
    except PeftableError as error:
        _say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        _say("error: interrupted; nothing is half-written, and the same command continues.")
        return Interrupted.exit_code
    except BrokenPipeError:
        # `make status | head` closes our stdout; that is no failure of ours.
        sys.stderr.close()
        return 128 + signal.SIGPIPE  # what a shell reports of a process that SIGPIPE ended
    except OSError as error:
        if error.errno in _USERS and error.filename is not None:
            _say(f"error: {error.filename}: {os.strerror(error.errno)}.")
            return RunError.exit_code
        if error.errno not in NO_SPACE:
            raise
        _say(f"error: {error}; make room, and the same command continues.")  # as where stdout is a file
        return RunError.exit_code
    except RuntimeError as error:
        known = for_user(error)
        if not isinstance(known, PeftableError):
            raise
        _say(f"error: {known}")
        return known.exit_code


def _say(message: str) -> None:
    with contextlib.suppress(OSError):  # stderr may be a file on the disk that is full
        print(shortened(printable(message), _MESSAGE_CHARACTERS), file=sys.stderr, flush=True)
