"""Which base a model was trained on: its commit on the Hub, or the hash of its weights."""

from pathlib import Path
from typing import Any

from torch import nn

from common.config.job import Job
from common.core.errors import ModelError
from common.core.files import sha256, sha256_file
from common.hub.locate import Base, locate
from common.model.inspect import inner_model


def base_identity(job: Job, model: nn.Module) -> dict[str, str | None]:
    """Return model_commit (of a Hub base) and model_sha256 (of a local base's weights), which `load` compares."""
    commit = getattr(inner_model(model).config, "_commit_hash", None)
    return {"model_commit": commit, "model_sha256": weights_hash(locate(job.model, job.revision))}


def check_same_base(job: Job, wanted: dict[str, Any], found: dict[str, Any], where: str) -> None:
    """Check that a base is the one that a saved model or checkpoint was trained on.

    Args:
        job: names the base.
        wanted: model_sha256 and model_commit of that time, from `base_identity`.
        found: those of the two that are known now.
        where: the saved model or checkpoint, for the message.

    Raises:
        ModelError: they differ.
    """
    for key, what, fix in (
        ("model_sha256", "whose weights had SHA-256", "Put the old base back, or train again with FORCE=1."),
        (
            "model_commit",
            "at the Hub's commit",
            f"Its revision '{job.revision}' has changed: train again with FORCE=1. A commit as the job's `revision` "
            "never changes.",
        ),
    ):
        if key in found and found[key] != wanted.get(key):
            raise ModelError(
                f"{where}: was trained on a base {what} {wanted.get(key)}; that of {job.model} is {found[key]}. {fix}"
            )


def weights_hash(base: Base) -> str | None:
    """Return the SHA-256 of a local base's weight files together, None for a Hub model, which its commit identifies."""
    if base.is_gguf:
        return sha256_file(Path(base.name))
    hashes = [sha256_file(file) for file in sorted(Path(base.name).glob("*.safetensors"))]
    return sha256("".join(hashes).encode()) if hashes else None
