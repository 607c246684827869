"""Which checkpoints of a run exist, and which are kept: the newest and the one with the best validation metric."""

import re
from collections.abc import Collection
from pathlib import Path

from common.core import files


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Return the complete checkpoints of a folder as (step, path), oldest first."""
    found = [(re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in folder.glob("checkpoint-*")]
    return sorted((int(match[1]), path) for match, path in found if match)


def keep_checkpoints(folder: Path, steps: Collection[int | None]) -> None:
    """Remove the checkpoints of a folder but those of `steps`."""
    for step, path in list_checkpoints(folder):
        if step not in steps:
            files.remove(path)
