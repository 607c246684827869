"""Check that no file of an export names this machine: its folders, its host, its user."""

import getpass
import mmap
import socket
from pathlib import Path

from common.config.catalog import ROOT
from common.core.errors import RunError
from common.export.base import ExportedBase
from common.export.source import TrainedRun

_SHORTEST = 5  # characters: shorter names are ordinary words, or occur in any vocabulary


def check_private(folder: Path, run: TrainedRun, base: ExportedBase) -> None:
    """Raise a `RunError` for a file that contains a path of this machine, the name of its host or of its user."""
    paths = {Path.home(), ROOT, Path.cwd(), run.folder.resolve(), base.folder, folder.parent.resolve(), folder}
    words = {str(path) for path in paths} | {socket.gethostname(), f"/{_user()}/"}
    needles = [word.encode() for word in words if len(word.strip("/")) >= _SHORTEST]
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size):
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for needle in needles:
                if content.find(needle) >= 0:
                    name = needle.decode()
                    raise RunError(f"{file.name} would name this machine ({name}); the export is not written.")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
