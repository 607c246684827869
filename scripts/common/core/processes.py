"""Identify a process, and find out whether it still runs, on this machine or on one that shares its files."""

import dataclasses
import os
import socket
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Process:
    """One process, told apart from every other on this machine and on those that share its files.

    Attributes:
        host: name of its machine.
        pid: its number there.
        started: the kernel's start time, which tells a reused number apart; None where the kernel does not say.
    """

    host: str
    pid: int
    started: str | None

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == socket.gethostname()

    def may_run(self) -> bool:
        """Return False when it has ended; a process of another machine cannot be seen from here, so it may run."""
        return not self.is_here or start_time(self.pid) == self.started


def find_process(pid: int) -> Process:
    """Return the process of this machine with that number."""
    return Process(socket.gethostname(), pid, start_time(pid))


def this_process() -> Process:
    """Return the process that calls."""
    return find_process(os.getpid())


def start_time(pid: int) -> str | None:
    """Return the kernel's start time of a process (field 22 of /proc/<pid>/stat), None when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        # A process that has ended and that no parent has waited for, as in a container without an init, is a zombie.
        return None if fields[0] == "Z" else fields[19]
    except (OSError, IndexError):
        return None
