"""Copies of the code, kept below an outputs folder: a queued job runs the code that it was submitted with.

A copy is named by the hash of its content, so jobs that were submitted with the same code share one. It holds what a
job imports and reads of the repository: `scripts/`, and the defaults of jobs. Data, models and outputs stay where they
are; `PEFTABLE_ROOT` tells a job where.
"""

import hashlib
import shutil
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from common.config.catalog import CODE
from common.core.documents import read_object
from common.core.files import atomic_folder, read_json, write_json

FOLDER = ".code"  # in an outputs folder
_FACTS = "code.json"
_DEFAULTS = "_defaults.yaml"
_NAME_LENGTH = 16  # hexadecimal digits of the hash


def code_facts() -> dict[str, Any]:
    """Return what identifies the code as it is now; `provenance.of_process` keeps it for the process.

    Returns:
        code_sha256: of the content of all files that a copy holds.
        git_commit: None outside a git repository.
        git_dirty: whether tracked files differ from that commit; None outside a git repository.
    """
    if (CODE / _FACTS).is_file():  # this process runs a copy, which knows what it was made of
        return dict(read_json(CODE / _FACTS))
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "code_sha256": _sha256(_content()),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": None if changes is None else bool(changes),
    }


def keep_code(outputs: Path) -> Path:
    """Return the folder of a copy of this code below `outputs`; make it where there is none."""
    content = _content()
    sha256 = _sha256(content)
    facts = code_facts() | {"code_sha256": sha256}
    folder = outputs.resolve() / FOLDER / sha256[:_NAME_LENGTH]
    if not (folder / _FACTS).is_file():
        with atomic_folder(folder) as partial:
            for name, data in content.items():
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                (partial / name).write_bytes(data)
            write_json(partial / _FACTS, facts)
    elif facts["git_dirty"] is False and read_object(folder / _FACTS) != facts:
        write_json(folder / _FACTS, facts)  # the same content has been committed since
    return folder


def copy_of(command: Sequence[str]) -> str | None:
    """Return the folder name of the copy that a submitted command runs, None where it runs none."""
    for script in map(Path, command):
        copy = script.parent.parent
        if script.suffix == ".py" and script.parent.name == "scripts" and copy.parent.name == FOLDER:
            return copy.name
    return None


def remove_unneeded(outputs: Path, needed: Collection[str]) -> None:
    """Remove the copies below `outputs` whose folder names are not in `needed`; the caller holds the submit lock."""
    for folder in (outputs / FOLDER).glob("*"):
        if folder.name not in needed:
            (folder / _FACTS).unlink(missing_ok=True)  # first: a copy without it is made anew
            shutil.rmtree(folder, ignore_errors=True)


def _content() -> dict[str, bytes]:
    """Return the files of the code: name below the code's folder → content."""
    paths = [path for kind in ("*.py", "*.yaml") for path in (CODE / "scripts").rglob(kind)]
    paths += (CODE / "jobs").glob(_DEFAULTS)
    names = {path.relative_to(CODE): path for path in sorted(paths) if path.is_file()}
    # A name that begins with a dot is an editor's.
    return {
        name.as_posix(): path.read_bytes()
        for name, path in names.items()
        if not any(part.startswith(".") for part in name.parts)
    }


def _sha256(content: dict[str, bytes]) -> str:
    lines = (f"{hashlib.sha256(data).hexdigest()} {name}\n" for name, data in content.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=CODE, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
