"""Run scripts one after another in this process, without output, up to the first that fails.

A start of Python with torch takes longer than a smoke run's command.
"""

import contextlib
import dataclasses
import io
import runpy
import shlex
import sys
import time
import traceback
from collections.abc import Callable

from common.cli.main import guard
from common.config.catalog import ROOT
from common.core import errors


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of one job.

    Attributes:
        name: of the job.
        seconds: that its commands took.
        done: names of the scripts that succeeded.
        failed: the command that failed, "" if none did.
        output: what the last command printed.
    """

    name: str
    seconds: float
    done: tuple[str, ...]
    failed: str
    output: str

    def __str__(self) -> str:
        if not self.failed:
            return f"{self.seconds:5.1f} s  {', '.join(self.done)}"
        printed = self.output.strip().replace("\n", "\n    ")
        return f"{self.seconds:5.1f} s  FAILED: {self.failed}\n    {printed}"


def run(name: str, prepare: Callable[[], list[list[str]]]) -> Outcome:
    """Run a job's commands up to the first that fails, and return the outcome.

    Args:
        name: of the job.
        prepare: makes the job's tiny model and fake data, and returns its commands: script name and arguments.
    """
    start, done, current, failed, output = time.monotonic(), [], "its tiny model and fake data", "", io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            for command in prepare():
                current = f"python scripts/{shlex.join([f'{command[0]}.py', *command[1:]])}"
                output.truncate(output.seek(0))
                if _run_script(command):
                    failed = current
                    break
                done.append(command[0])
        except errors.PeftableError as error:
            failed = current
            print(f"error: {error}")
        except Exception:  # a bug in one job must not hide the outcomes of the others
            failed = current
            traceback.print_exc()
    return Outcome(name, time.monotonic() - start, tuple(done), failed, output.getvalue())


def _run_script(command: list[str]) -> int:
    """Run a script as from its command line, in this process, and return its exit code."""
    sys.argv = [f"scripts/{command[0]}.py", *command[1:]]
    code = guard(runpy.run_path(str(ROOT / sys.argv[0]))["main"], command[1:])
    if code == errors.Interrupted.exit_code:
        raise KeyboardInterrupt
    return code
