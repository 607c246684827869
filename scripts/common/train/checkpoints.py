"""Which checkpoints of a run exist, and which are kept: the newest and the one with the best validation metric."""

import re
from pathlib import Path

from transformers import TrainerState

from common.core import files


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Return the complete checkpoints of a folder as (step, path), oldest first."""
    found = [(re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in folder.glob("checkpoint-*")]
    return sorted((int(match[1]), path) for match, path in found if match)


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
