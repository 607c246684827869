"""Where base models are: a folder, an installed package, or the Hub at one commit, and what of it this machine has.

Imports no transformers, so it serves login nodes; `pretrained` loads from these places.
"""

import contextlib
import dataclasses
import functools
import importlib.util
import json
import shlex
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    LocalEntryNotFoundError,
    RevisionResolutionError,
)
from huggingface_hub.file_download import repo_folder_name

from common.config import catalog
from common.config.catalog import ROOT
from common.config.job import Job
from common.core import hub_errors
from common.core.errors import ConfigError, ModelError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SAVED = "peftable.json"  # in the folder of a model that we saved: its base, head, labels


@dataclasses.dataclass(frozen=True)
class Base:
    """A base model's place: what to pass to `from_pretrained`; the revision is None for a local folder."""

    name: str
    revision: str | None


def locate(model: str, revision: str) -> Base:
    """Return where a job's `model:` is: a hub id, a local folder, or `package:<module>/<path>`.

    Raises:
        ModelError: the package is not installed, or the folder is no model.
    """
    if model.startswith("package:"):
        module, _, inner = model.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(module) if module.isidentifier() else None
        # The module is found, not imported: none of its code runs.
        if spec is None or not spec.submodule_search_locations:
            raise ModelError(
                f"model {model}: the Python package '{module}' is not installed. For the demo's encoder: "
                "make .venv/demo"
            )
        return Base(str(_model_folder(Path(next(iter(spec.submodule_search_locations))) / inner, model)), None)
    if model.startswith((".", "/", "~")) or (ROOT / model).is_dir():
        # A relative folder is meant from the repository, wherever the command is typed; as data files are.
        return Base(str(_model_folder(ROOT / Path(model).expanduser(), model)), None)
    return Base(model, revision)


def _model_folder(path: Path, model: str) -> Path:
    if not (path / "config.json").is_file():
        raise ModelError(f"model {model}: {path} holds no config.json, so it is no model folder.")
    return path


@functools.cache
def hub_commit(name: str, revision: str) -> str:
    """Return the commit of a Hub model's branch or tag, once per process, so that no part is of another commit.

    The config is fetched with it: what the Hub refuses, it refuses here, in huggingface_hub's own clear words.
    """
    try:
        commit = HfApi().resolve_revision(name, revision=revision).resolved
        hf_hub_download(name, "config.json", revision=commit)
    except HFValidationError as error:
        raise no_id(name) from error
    except LocalEntryNotFoundError:
        raise
    except EntryNotFoundError as error:
        raise no_config(name, revision) from error
    return commit


# --- what this machine has of it --------------------------------------------------------------------------------------


def snapshot(name: str, revision: str) -> Path | None:
    """Return the folder of the Hub's cache that an offline process reads a model from, None where there is none."""
    try:
        commit = HfApi().resolve_revision(name, revision=revision, local_files_only=True).resolved
    except (HFValidationError, RevisionResolutionError, OSError):
        return None
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model") / "snapshots" / commit
    return folder if folder.is_dir() else None


def lacking(folder: Path) -> list[str]:
    """Return what a model's folder lacks for loading it, [] where it is complete; reads headers, never weights."""
    names = [] if (folder / "config.json").is_file() else ["config.json"]
    if not _has_vocabulary(folder):
        # Some tokenizers would load all the same, with an empty vocabulary.
        names.append("the tokenizer's vocabulary (tokenizer.json or the like)")
    if not (folder / WEIGHTS).is_file() and (folder / INDEX).is_file():
        try:
            shards = sorted(set(json.loads((folder / INDEX).read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError):
            return [*names, INDEX]
        return names + [name for name in shards if not is_whole(folder / name)]
    return names if is_whole(folder / WEIGHTS) else [*names, WEIGHTS]


def _has_vocabulary(folder: Path) -> bool:
    if any((folder / name).is_file() for name in ("tokenizer.json", "tekken.json", "vocab.txt")):
        return True
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return True
    return any(file.is_file() for file in folder.glob("*.model"))


def is_whole(file: Path) -> bool:
    """Say whether a safetensors file is there, and as long as its header says: a copy may have broken off.

    Source: https://github.com/huggingface/safetensors, section "Format".
    """
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > file.stat().st_size:
                return False
            header = json.loads(stream.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return file.stat().st_size == 8 + length + max(ends, default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return False


# --- what goes wrong --------------------------------------------------------------------------------------------------


def no_id(name: str) -> ModelError:
    """Return the error for a name that is neither a folder nor a Hub id."""
    return ModelError(
        f"model {name}: is neither a folder nor a Hub id. A folder begins with './', '/' or '~'; an id reads "
        "<owner>/<name>."
    )


def no_config(name: str, revision: str) -> ModelError:
    """Return the error for a repository without config.json."""
    return ModelError(
        f"model {name} (revision {revision}): the repository holds no config.json, so it is no model of the "
        "transformers library (an adapter or GGUF repository, perhaps). Name the base model it was made from."
    )


def no_safetensors(base: Base, loader: str) -> str:
    """Say that a model is not published as safetensors, and what to do.

    Args:
        base: the model.
        loader: the transformers class that reads it for a conversion, such as "AutoModel".
    """
    hub = base.revision is not None
    # In an offline process nobody knows what the Hub has.
    offline = hub and constants.is_offline_mode()
    perhaps = f"Perhaps they are only missing in the cache: where there is internet, `{fetch_command(base)}`. "
    pull = (
        f"Look for a pull request with safetensors at https://huggingface.co/{base.name}/discussions and set "
        "revision: refs/pr/<number>, or convert"
        if hub
        else "Convert"
    )
    return (
        "it has no weights as safetensors (model.safetensors), and other formats, which can run code when they are "
        f"read, are refused. {perhaps if offline else ''}{pull} a model you trust: python -c "
        f"\"from transformers import {loader}, AutoTokenizer; m = '{base.name}'; f = 'models/converted'; "
        f'{loader}.from_pretrained(m).save_pretrained(f); AutoTokenizer.from_pretrained(m).save_pretrained(f)"; '
        "then model: ./models/converted"
    )


def hub_reason(error: BaseException, base: Base) -> str:
    """Say why a Hub model could not be loaded or fetched; see `hubfaults.reason`."""
    known = {job.model for _, job in _jobs()}
    return hub_errors.reason(error, base.name, str(base.revision), fetch_command(base), known=known)


def fetch_command(base: Base) -> str:
    """Return the command that downloads a Hub model: `make fetch` where a job names it, at that revision."""
    for name, job in _jobs():
        if (job.model, job.revision) == (base.name, base.revision):
            return f"make fetch MODEL={shlex.quote(name)}"
    return f"hf download {shlex.quote(base.name)} --revision {shlex.quote(base.revision or 'main')}"


def _jobs() -> list[tuple[str, Job]]:
    """Return all jobs that can be read, by name."""
    found = []
    for name in catalog.names(catalog.JOBS):
        with contextlib.suppress(ConfigError):
            found.append((name, catalog.load_job(name)[0]))
    return found
