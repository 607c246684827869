"""Name the base of an exported model so that others find it: by Hub id and commit, never by a path of this machine."""

import dataclasses
from pathlib import Path
from typing import Any

from common.config.job import Job
from common.core.errors import ModelError
from common.core.files import sha256, sha256_file
from common.hub.locate import locate, snapshot
from common.model import dequantize


@dataclasses.dataclass(frozen=True)
class ExportedBase:
    """A base model as an export names it.

    Attributes:
        name: a Hub id, `package:<module>/<path>`, or the name of a folder or file.
        hub: the Hub id, None for a local base.
        commit: on the Hub.
        sha256: of the weights in its folder, together.
        where: a sentence: where a person gets it.
        folder: on this machine; not exported.
    """

    name: str
    hub: str | None
    commit: str | None
    sha256: str
    where: str
    folder: Path

    def plain(self) -> dict[str, Any]:
        """Return what an export says."""
        return {key: getattr(self, key) for key in ("name", "hub", "commit", "sha256", "where")}


def exported_base(job: Job, commit: str | None) -> ExportedBase:
    """Return the base of a job.

    Args:
        job: of the run.
        commit: the Hub's commit on which it was trained, None for a local base.

    Raises:
        ModelError: the base is not on this machine.
    """
    base = locate(job.model, commit or job.revision)
    if base.revision is not None:
        folder = snapshot(base.name, str(commit))
        if folder is None:
            raise ModelError(f"model {base.name}: the commit {commit} is not in this machine's cache.")
        where = f"It is on the Hugging Face Hub: {base.name}, commit {commit}."
        return ExportedBase(base.name, base.name, commit, weights_hash(folder), where, folder)
    path = Path(base.name)
    name = job.model if job.model.startswith("package:") else path.name
    if base.is_gguf:
        folder, where = dequantize.model_folder(path), _where_gguf(path)
    else:
        folder, where = path, _where_folder(name)
    return ExportedBase(name, None, None, weights_hash(folder), where, folder)


def weights_hash(folder: Path) -> str:
    """Return the SHA-256 of a folder's safetensors files together, as the exported classifier.py computes it."""
    hashes = [sha256_file(file) for file in sorted(folder.glob("*.safetensors"))]
    return sha256("".join(hashes).encode())


def _where_folder(name: str) -> str:
    if name.startswith("package:"):
        module, _, inner = name.removeprefix("package:").partition("/")
        return f"It is the folder {inner} of the installed Python package {module}; name that folder as the base."
    return "It is a local folder, not one of the Hugging Face Hub; name that folder as the base."


def _where_gguf(file: Path) -> str:
    return (
        f"It is the file {file.name} (SHA-256 {sha256_file(file)}) in 32 bits. With the package gguf, "
        f"AutoModelForCausalLM.from_pretrained(<folder>, gguf_file='{file.name}') of transformers reads it; save it "
        "with save_pretrained, and name that folder as the base."
    )
