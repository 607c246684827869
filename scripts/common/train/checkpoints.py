"""Which checkpoints of a run exist and are whole, and which are kept: the newest and the one with the best metric."""

import re
from pathlib import Path

from transformers import TrainerState

from common.core import files
from common.core.documents import read_object

STATE, RESUME = "trainer_state.json", "resume.json"
CHECKSUMS = "checksums.json"
CHECKSUMMED = "has_checksums"  # key in RESUME; checkpoints of older versions lack it, and the file


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Return the complete checkpoints of a folder as (step, path), oldest first."""
    found = [(re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in folder.glob("checkpoint-*")]
    return sorted((int(match[1]), path) for match, path in found if match)


def write_checksums(checkpoint: Path) -> None:
    """Write the SHA-256 of every file of a checkpoint beside them."""
    sums = {file.name: files.sha256_file(file) for file in sorted(checkpoint.iterdir())}
    files.write_json(checkpoint / CHECKSUMS, {"files": sums})


def damage(checkpoint: Path) -> str | None:
    """Return what is wrong with a checkpoint, None where every file is as it was written.

    Of a checkpoint of an older version, which has no checksums, only the two JSON files are looked at.
    """
    if not (checkpoint / CHECKSUMS).exists():
        known = read_object(checkpoint / RESUME)
        if known and CHECKSUMMED not in known:
            return None if read_object(checkpoint / STATE) else f"{STATE} cannot be read"
    sums = read_object(checkpoint / CHECKSUMS).get("files")
    if not isinstance(sums, dict):
        return f"{CHECKSUMS} cannot be read"
    for name, sha256 in sums.items():
        try:
            if files.sha256_file(checkpoint / name) != sha256:
                return f"{name} is not as it was written"
        except OSError as error:
            return f"{name}: {error.strerror}"
    return None


def newest_whole(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the newest checkpoint that a run can continue from, None without one, and what is wrong with newer ones.

    It is whole, and so is the checkpoint that had the best metric until then.
    """
    found: dict[int, tuple[Path, str | None]] = {}
    for step, path in list_checkpoints(folder):
        found[step] = path, damage(path)
    problems: list[str] = []
    for path, problem in reversed(list(found.values())):
        if problem is None:
            best = TrainerState.load_from_json(str(path / STATE)).best_global_step
            if best is None or (best in found and found[best][1] is None):
                return path, problems
            problem = f"the best one until then, checkpoint-{best}, is damaged"
        problems.append(f"{path.name} is damaged ({problem})")
    return None, problems


def remove_old_checkpoints(folder: Path, state: TrainerState, is_evaluated: bool) -> None:
    """Remove all checkpoints but the newest and the best.

    Args:
        folder: of the checkpoints.
        state: knows the steps of both.
        is_evaluated: False while the newest still needs its evaluation, which may make it the best; all are kept then.
    """
    if is_evaluated:
        for step, path in list_checkpoints(folder):
            if step not in (state.global_step, state.best_global_step):
                files.remove(path)
