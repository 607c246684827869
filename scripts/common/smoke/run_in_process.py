"""The scripts run one after another in this process, silently, up to the first that fails.

Starting Python with torch costs more than a miniature job does.
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
    """How a job went: the scripts that succeeded; the command that did not, if any, and what it printed."""

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
    """Run commands up to the first that fails; what they print is kept for that case."""
    start, done, current, failed, output = time.monotonic(), [], "its twin and rows", "", io.StringIO()
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
        except Exception:  # a bug that one job meets must not hide how the others go
            failed = current
            traceback.print_exc()
    return Outcome(name, time.monotonic() - start, tuple(done), failed, output.getvalue())


def _run_script(command: list[str]) -> int:
    """Run one of the scripts as its command line would, without starting Python anew."""
    sys.argv = [f"scripts/{command[0]}.py", *command[1:]]
    code = guard(runpy.run_path(str(ROOT / sys.argv[0]))["main"], command[1:])
    if code == errors.Interrupted.exit_code:
        raise KeyboardInterrupt
    return code
